//! Sizes, rates and times as people write them: `"80 GiB"`, `"400 Gbps"`, `"5 us"`. The same in files and on the
//! command line.
//!
//! GB is 10^9 bytes, GiB 2^30; `bps` counts bits, `B/s` bytes. A space before the unit is optional; case is not.

use crate::nearest::{list, nearest};
use sim_core::{Rate, SimDuration, SimTime};
use sim_models::units::Bytes;

/// Unit and its size in bytes, bytes per second or picoseconds.
type Unit = (&'static str, f64);

const SIZES: &[Unit] = &[
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

const RATES: &[Unit] = &[
    ("bps", 0.125),
    ("Kbps", 125.0),
    ("Mbps", 125e3),
    ("Gbps", 125e6),
    ("Tbps", 125e9),
    ("B/s", 1.0),
    ("KB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
    ("TB/s", 1e12),
    ("KiB/s", 1024.0),
    ("MiB/s", 1_048_576.0),
    ("GiB/s", 1_073_741_824.0),
];

const TIMES: &[Unit] = &[
    ("ps", 1.0),
    ("ns", 1e3),
    ("us", 1e6),
    ("ms", 1e9),
    ("s", 1e12),
    ("min", 60e12),
    ("h", 3600e12),
    ("d", 86_400e12),
];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Size,
    /// Bytes per second.
    Rate,
    /// Picoseconds.
    Time,
    /// The same, further than a picosecond clock reaches.
    LongTime,
}

impl Kind {
    fn units(self) -> &'static [Unit] {
        match self {
            Kind::Size => SIZES,
            Kind::Rate => RATES,
            Kind::Time | Kind::LongTime => TIMES,
        }
    }

    /// Names of its units.
    pub fn unit_names(self) -> impl Iterator<Item = &'static str> {
        self.units().iter().map(|u| u.0)
    }

    /// `a size`, `a rate`, `a time`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Size => "a size",
            Kind::Rate => "a rate",
            Kind::Time | Kind::LongTime => "a time",
        }
    }

    /// The unit an example is written in.
    pub fn usual_unit(self) -> &'static str {
        match self {
            Kind::Size => "GiB",
            Kind::Rate => "Gbps",
            Kind::Time => "ms",
            Kind::LongTime => "s",
        }
    }

    /// Largest amount, in base units, and how it is written.
    fn most(self) -> (f64, &'static str) {
        match self {
            // 2^60 bytes: sums of a million of them are still caught by saturating arithmetic.
            Kind::Size => (1_152_921_504_606_846_976.0, "1048576 TiB"),
            // 2^48 bytes/s, the end of sim_core::Rate, kept a rounding away.
            Kind::Rate => (281e12, "281 TB/s"),
            // 2^64 ps, likewise.
            Kind::Time => (18_403_200e12, "213 d"),
            // 2^64 ns, likewise.
            Kind::LongTime => (18_403_200_000e12, "213000 d"),
        }
    }

    /// A pattern that every amount of the kind matches, for the JSON Schema.
    pub fn pattern(self) -> String {
        let units: Vec<&str> = self.units().iter().map(|u| u.0).collect();
        format!("^[0-9.]+([eE][+-]?[0-9]+)? *({})$", units.join("|"))
    }
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantityError {
    /// A bare number.
    #[error("{} needs a unit: `{text}`", kind.name())]
    NoUnit {
        /// What was wanted.
        kind: Kind,
        /// The whole text.
        text: String,
    },
    /// A unit that is none of this kind.
    #[error("{} has no unit `{unit}`", kind.name())]
    UnknownUnit {
        /// What was wanted.
        kind: Kind,
        /// The number before it.
        number: String,
        /// The unit.
        unit: String,
    },
    /// No number in front.
    #[error("`{text}` is not {}", kind.name())]
    NotANumber {
        /// What was wanted.
        kind: Kind,
        /// The whole text.
        text: String,
    },
    /// Below zero, NaN, infinite or too large.
    #[error("{} must be finite and from 0 to {}: `{text}`", kind.name(), kind.most().1)]
    OutOfRange {
        /// What was wanted.
        kind: Kind,
        /// The whole text.
        text: String,
    },
}

impl QuantityError {
    /// What would be right.
    pub fn help(&self) -> String {
        match self {
            QuantityError::NoUnit { kind, text } => {
                format!("write for example `\"{text} {}\"`", kind.usual_unit())
            }
            QuantityError::UnknownUnit { kind, number, unit } => {
                let names: Vec<&str> = kind.units().iter().map(|u| u.0).collect();
                match near_unit(unit, &names) {
                    Some(name) => format!("did you mean `\"{number} {name}\"`?"),
                    None => format!("the units of {} are {}", kind.name(), list(&names)),
                }
            }
            QuantityError::NotANumber { kind, .. } => {
                format!("write a number and a unit, for example `\"10 {}\"`", kind.usual_unit())
            }
            QuantityError::OutOfRange { .. } => String::new(),
        }
    }

    /// The stable code of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            QuantityError::NoUnit { .. } => "T0105",
            QuantityError::UnknownUnit { .. } | QuantityError::NotANumber { .. } => "T0106",
            QuantityError::OutOfRange { .. } => "T0107",
        }
    }
}

/// `Gb` where a rate is wanted is `Gbps`, whatever the letters count.
fn near_unit<'a>(unit: &str, names: &[&'a str]) -> Option<&'a str> {
    let same = |name: &&&str| name.eq_ignore_ascii_case(unit);
    names.iter().find(same).copied().or_else(|| nearest(unit, names.iter().copied()))
}

/// An amount in bytes, bytes per second or picoseconds, not yet rounded.
fn parse(text: &str, kind: Kind) -> Result<f64, QuantityError> {
    let text = text.trim();
    let short: String = text.chars().take(60).collect();
    let split = number_end(text);
    let (number, unit) = (text[..split].trim(), text[split..].trim());
    let Ok(value) = number.parse::<f64>() else {
        return Err(QuantityError::NotANumber { kind, text: short });
    };
    let out_of_range = QuantityError::OutOfRange { kind, text: short.clone() };
    if !value.is_finite() || value < 0.0 {
        return Err(out_of_range);
    }
    if unit.is_empty() {
        return Err(QuantityError::NoUnit { kind, text: short });
    }
    let Some((_, size)) = kind.units().iter().find(|(name, _)| *name == unit) else {
        let unit = unit.chars().take(20).collect();
        return Err(QuantityError::UnknownUnit { kind, number: number.chars().take(40).collect(), unit });
    };
    let amount = value * size;
    if amount > kind.most().0 { Err(out_of_range) } else { Ok(amount) }
}

/// Where the number at the start of `text` ends: digits, sign, point, exponent, or one of the words for no number.
fn number_end(text: &str) -> usize {
    let bare = text.trim_start_matches(['+', '-']);
    let signs = text.len() - bare.len();
    for word in ["nan", "infinity", "inf"] {
        if bare.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            return signs + word.len();
        }
    }
    let digits = |s: &str| s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let mantissa = digits(bare);
    let rest = &bare[mantissa..];
    if mantissa > 0
        && let Some(exponent) = rest.strip_prefix(['e', 'E'])
    {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = digits(unsigned);
        if length > 0 {
            return text.len() - unsigned.len() + length;
        }
    }
    signs + mantissa
}

/// Reads a size such as `"80 GiB"`, rounded to a byte.
///
/// # Errors
/// No unit, no unit of sizes, no number; negative, NaN, infinite or over 2^60 bytes.
pub fn size(text: &str) -> Result<Bytes, QuantityError> {
    parse(text, Kind::Size).map(Bytes::from_f64)
}

/// Reads a rate such as `"400 Gbps"` or `"1.5 TB/s"`.
///
/// ```
/// use scenarios::quantity::rate;
/// assert_eq!(rate("8 Gbps"), rate("1 GB/s"));
/// assert!(rate("8").unwrap_err().help().contains("8 Gbps"));
/// ```
///
/// # Errors
/// No unit, no unit of rates, no number; negative, NaN, infinite or over 281 TB/s.
pub fn rate(text: &str) -> Result<Rate, QuantityError> {
    let out_of_range = QuantityError::OutOfRange { kind: Kind::Rate, text: text.trim().into() };
    Rate::from_bytes_per_s(parse(text, Kind::Rate)?).map_err(|_| out_of_range)
}

/// Reads a length of time such as `"5 us"`, rounded to a picosecond.
///
/// # Errors
/// No unit, no unit of times, no number; negative, NaN, infinite or over 213 days.
pub fn duration(text: &str) -> Result<SimDuration, QuantityError> {
    parse(text, Kind::Time).map(|ps| SimDuration::from_ps(libm::round(ps) as u64))
}

/// Reads a length of time of up to 213,000 days, rounded to a nanosecond.
///
/// # Errors
/// As [`duration`], but over 213,000 days.
pub fn nanoseconds(text: &str) -> Result<u64, QuantityError> {
    parse(text, Kind::LongTime).map(|ps| libm::round(ps / 1e3) as u64)
}

/// Reads an instant such as `"90 s"`, counted from the start of the traces.
///
/// # Errors
/// As [`duration`].
pub fn instant(text: &str) -> Result<SimTime, QuantityError> {
    duration(text).map(|d| SimTime::from_ps(d.as_ps()))
}
