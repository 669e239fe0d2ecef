//! Which borders between layers can be borders of every part of a plan.

/// Borders common to all parts are counted up to this many: more are as good as any.
pub const MOST_COMMON: usize = 2;

/// Which borders of a part can be borders of all other parts, too. Elsewhere some rank holds the layers on both sides and sends
/// their gradients one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// So many at most; any number where that is not known.
    pub most: Option<usize>,
    /// Only these.
    pub at: Borders,
}

impl Common {
    /// Any may be.
    pub const ANY: Common = Common { most: None, at: Borders::ALL };
}

/// Borders between layers: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Borders([u64; 4]);

impl Borders {
    /// Every border.
    pub const ALL: Borders = Borders([u64::MAX; 4]);
    /// None but those past the last that is kept apart: these are always in.
    pub const NONE: Borders = Borders([0; 4]);

    /// Takes one in.
    pub fn insert(&mut self, border: usize) {
        if let Some(word) = self.0.get_mut(border / 64) {
            *word |= 1 << (border % 64);
        }
    }

    /// Whether it is in.
    pub fn has(&self, border: usize) -> bool {
        self.0.get(border / 64).is_none_or(|word| word >> (border % 64) & 1 > 0)
    }

    /// How many of the borders between so many layers are in it.
    pub fn between(&self, layers: usize) -> usize {
        (1..layers).filter(|border| self.has(*border)).count()
    }

    /// Those that are in both.
    pub fn and(self, other: Borders) -> Borders {
        Borders(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Those that are in either.
    pub fn or(self, other: Borders) -> Borders {
        Borders(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}
