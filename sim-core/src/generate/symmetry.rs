//! Folding of programs: when all ranks are alike, one of them is simulated for all.

use thiserror::Error;

use super::{Message, Route};

/// A group that carries every rank to every other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symmetry {
    /// Rank r to r + k modulo the number of ranks.
    Rotation,
    /// Rank r to r xor k; the number of ranks is a power of two.
    Exchange,
}

/// Why ranks cannot be folded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The links are not carried to each other.
    #[error("not folded: link `{link}` has no counterpart under {symmetry:?}")]
    Links {
        /// The first such link.
        link: u32,
        /// The symmetry asked for.
        symmetry: Symmetry,
    },
    /// Two links that should be alike differ in speed, latency or trace.
    #[error("not folded: link `{link}` differs from link `{like}` in speed, latency or trace")]
    Unlike {
        /// The first such link.
        link: u32,
        /// The link that stands for it.
        like: u32,
    },
    /// [`Symmetry::Exchange`] needs a power of two.
    #[error("not folded: {ranks} ranks are not a power of two")]
    Ranks {
        /// The number of ranks.
        ranks: u32,
    },
}

/// Which ranks and links stand for which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    pub ranks: u32,
    pub symmetry: Option<Symmetry>,
}

impl Fold {
    /// Ranks that are simulated.
    pub(super) fn simulated(&self) -> u32 {
        if self.symmetry.is_some() { self.ranks.min(1) } else { self.ranks }
    }

    /// The message as the rank that stands for its receiver sees it.
    #[inline]
    pub(super) fn seen(&self, message: Message) -> Message {
        let (from, to) = (message.from, message.to);
        match self.symmetry {
            None => message,
            Some(Symmetry::Rotation) => {
                let from = if from >= to { from - to } else { from + (self.ranks - to) };
                Message { from, to: 0, ..message }
            }
            Some(Symmetry::Exchange) => Message { from: from ^ to, to: 0, ..message },
        }
    }

    /// The link that stands for `link`.
    #[inline]
    pub(super) fn link(&self, route: &impl Route, link: u32) -> u32 {
        match self.symmetry {
            None => link,
            Some(symmetry) => route.orbit(link, symmetry).unwrap_or(link),
        }
    }

    /// Checks that every link is like the one that stands for it.
    pub(super) fn check(&self, route: &impl Route, alike: impl Fn(u32, u32) -> bool) -> Result<(), Refusal> {
        let Some(symmetry) = self.symmetry else { return Ok(()) };
        if symmetry == Symmetry::Exchange && !self.ranks.is_power_of_two() {
            return Err(Refusal::Ranks { ranks: self.ranks });
        }
        for link in 0..route.links() {
            let like = route.orbit(link, symmetry).ok_or(Refusal::Links { link, symmetry })?;
            if !alike(link, like) {
                return Err(Refusal::Unlike { link, like });
            }
        }
        Ok(())
    }
}
