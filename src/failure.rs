//! Why a command could not run: faults in a file or an option, shown with the line they are in.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use scenarios::Fault;
use std::fmt;

/// What a command that ran has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done.
    Yes,
    /// It ran, but the answer is no: no feasible plan, memory exceeded, error budget broken.
    No,
}

impl Answer {
    pub(crate) fn status(self) -> u8 {
        match self {
            Answer::Yes => 0,
            Answer::No => 1,
        }
    }
}

/// Bad usage or bad input: exit status 2.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Faults of a file or an option, with their places.
    Faults(Vec<Fault>),
    /// Anything else: what is wrong, and what would be right.
    Message {
        /// What is wrong.
        message: String,
        /// What would be right; may be empty.
        help: String,
    },
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::Message { message: message.into(), help: help.into() }
    }

    /// What people read: each fault with the line it is in.
    pub(crate) fn shown(&self) -> String {
        match self {
            Failure::Faults(faults) => {
                let mut lines: Vec<String> = faults
                    .iter()
                    .map(|f| format!("{:?}", miette::Report::new(Shown::of(f.clone()))))
                    .collect();
                if faults.len() > 1 {
                    lines.push(format!("{} errors", faults.len()));
                }
                lines.join("\n")
            }
            Failure::Message { message, help } if help.is_empty() => format!("error: {message}"),
            Failure::Message { message, help } => format!("error: {message}\n  help: {help}"),
        }
    }

    /// What programs read.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        match self {
            Failure::Faults(faults) => faults.iter().map(Problem::of).collect(),
            Failure::Message { message, help } => vec![Problem {
                code: None,
                file: None,
                line: None,
                column: None,
                message: message.clone(),
                help: (!help.is_empty()).then(|| help.clone()),
            }],
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, such as `T0101`, of a fault of a file.
    pub code: Option<&'static str>,
    /// The file or option that it is in.
    pub file: Option<String>,
    /// Its line, from 1.
    pub line: Option<usize>,
    /// Its column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    fn of(fault: &Fault) -> Problem {
        let (line, column) = fault.line_column().unzip();
        Problem {
            code: Some(fault.code),
            file: Some(fault.source.name.clone()),
            line,
            column,
            message: fault.message.clone(),
            help: fault.help.clone(),
        }
    }
}

impl From<Vec<Fault>> for Failure {
    fn from(faults: Vec<Fault>) -> Failure {
        Failure::Faults(faults)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Faults(vec![fault])
    }
}

/// Longest line that is shown, in bytes.
const LONGEST: usize = 1000;

/// A fault as `miette` shows it.
#[derive(Debug)]
struct Shown {
    fault: Fault,
    /// The text that it is in, where its lines can be shown.
    source: Option<NamedSource<String>>,
}

impl Shown {
    fn of(fault: Fault) -> Shown {
        let long = |line: &str| line.len() > LONGEST;
        let (name, text) = (&fault.source.name, &fault.source.text);
        let parts = fault.span.as_ref().and_then(|span| text.split_at_checked(span.start));
        // Its line and those beside it.
        let shown = parts.filter(|(before, after)| {
            !before.rsplit('\n').take(2).any(long) && !after.split('\n').take(2).any(long)
        });
        let source = shown.map(|_| NamedSource::new(name, text.clone()));
        Shown { source, fault }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { source, message, .. } = &self.fault;
        // Without the text `miette` would not name the file.
        match (&self.source, self.fault.line_column()) {
            (Some(_), _) => f.write_str(message),
            (None, Some((line, column))) => write!(f, "{}:{line}:{column}: {message}", source.name),
            (None, None) => write!(f, "{}: {message}", source.name),
        }
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.fault.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.fault.span.clone().filter(|_| self.source.is_some())?;
        Some(Box::new(std::iter::once(LabeledSpan::underline(span))))
    }
}
