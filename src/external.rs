//! A user's own planner: a command that takes a scenario as JSON on its standard input and gives a plan as JSON on its standard
//! output, within a time and an amount of output; or one in the host's own process, which takes and gives the same.

use serde::Deserialize;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_search::planners::{About, EXTERNAL, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, describe};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Output of a command beyond which it is ended: a plan of a million devices is smaller.
const MOST_OUTPUT: u64 = 64 << 20;

/// How often a running command is looked after.
const TICK: Duration = Duration::from_millis(20);

/// A command: a program and its arguments, separated by blanks; no shell.
pub(crate) struct External {
    words: Vec<String>,
}

/// What a command answers: a plan, or an object with a plan and its estimate.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Estimated {
        plan: Plan,
        #[serde(default)]
        own_estimate_s: Option<f64>,
    },
    Plan(Plan),
}

/// Reads a plan from JSON, with its estimate if it has one.
fn read(text: &str) -> Result<Entrant, String> {
    match serde_json::from_str(text) {
        Ok(Answer::Estimated { plan, own_estimate_s }) => {
            let sane = own_estimate_s.is_none_or(|s| s.is_finite() && s > 0.0);
            if !sane {
                return Err("`own_estimate_s` is not a number of seconds above 0".into());
            }
            Ok(Entrant { plan, own_estimate_s })
        }
        Ok(Answer::Plan(plan)) => Ok(Entrant { plan, own_estimate_s: None }),
        // An untagged enum does not say what is wrong; the plain plan does.
        Err(_) => match serde_json::from_str::<Plan>(text) {
            Err(error) => Err(format!("not a plan in JSON: {error}; `tideplan schema plan` shows one")),
            Ok(plan) => Ok(Entrant { plan, own_estimate_s: None }),
        },
    }
}

impl External {
    /// The command in one text.
    pub(crate) fn new(command: &str) -> Result<External, String> {
        let words: Vec<String> = command.split_whitespace().map(str::to_string).collect();
        if words.is_empty() { Err("an empty command".into()) } else { Ok(External { words }) }
    }

    fn start(&self) -> Result<Child, NoProposal> {
        Command::new(&self.words[0])
            .args(&self.words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| NoProposal::Failed(format!("cannot start `{}`: {e}", self.words[0])))
    }
}

/// Writes and reads on threads of their own, so that a command that does neither is no hang.
fn talk(child: &mut Child, input: String) -> Receiver<std::io::Result<Vec<u8>>> {
    let (send, receive) = channel();
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading is no error here: its answer tells.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout.take(MOST_OUTPUT + 1).read_to_end(&mut output);
            drop(send.send(read.map(|_| output)));
        });
    }
    receive
}

/// What a planner in the host's process gives: a plan as JSON, or why there is none; a sender that goes away has none.
pub type Answered = Receiver<Result<String, String>>;

/// Hands a planner in the host's process a scenario as JSON.
pub type Ask = Box<dyn Fn(String) -> Answered + Send + Sync>;

/// A planner in the host's process.
pub(crate) struct Hosted {
    pub(crate) ask: Ask,
}

impl Planner for Hosted {
    fn about(&self) -> About {
        EXTERNAL
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let answered = (self.ask)(describe(scenario, limits.at).to_string());
        let answer = loop {
            match answered.recv_timeout(TICK) {
                Ok(answer) => break answer.map_err(NoProposal::Failed)?,
                Err(RecvTimeoutError::Disconnected) => return Err(NoProposal::Failed("no answer".into())),
                Err(RecvTimeoutError::Timeout) if go_on() => {}
                Err(RecvTimeoutError::Timeout) => return Err(NoProposal::OutOfTime),
            }
        };
        let entrant = read(&answer).map_err(NoProposal::Failed)?;
        Ok(Proposal { plans: vec![entrant], candidates: 1 })
    }
}

impl Planner for External {
    fn about(&self) -> About {
        EXTERNAL
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let mut child = self.start()?;
        let output = talk(&mut child, describe(scenario, limits.at).to_string());
        let end = |child: &mut Child| {
            drop(child.kill());
            drop(child.wait());
        };
        let bytes = loop {
            match output.recv_timeout(TICK) {
                Ok(Ok(bytes)) => break bytes,
                Ok(Err(error)) => {
                    end(&mut child);
                    return Err(NoProposal::Failed(format!("cannot read from `{}`: {error}", self.words[0])));
                }
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
                Err(RecvTimeoutError::Timeout) if go_on() => {}
                Err(RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    return Err(NoProposal::OutOfTime);
                }
            }
        };
        if bytes.len() as u64 > MOST_OUTPUT {
            end(&mut child);
            let most = MOST_OUTPUT >> 20;
            return Err(NoProposal::Failed(format!("`{}` wrote more than {most} MiB", self.words[0])));
        }
        // It closed its output; it may take a moment to end, and no longer than the others.
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if go_on() => std::thread::sleep(TICK),
                _ => {
                    end(&mut child);
                    return Err(NoProposal::OutOfTime);
                }
            }
        };
        if !status.success() {
            return Err(NoProposal::Failed(format!("`{}` ended with {status}", self.words[0])));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| NoProposal::Failed(format!("`{}` wrote no UTF-8", self.words[0])))?;
        let entrant =
            read(&text).map_err(|problem| NoProposal::Failed(format!("`{}`: {problem}", self.words[0])))?;
        Ok(Proposal { plans: vec![entrant], candidates: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_plans_with_or_without_an_estimate() {
        let plan = r#"{"micro_batch":1,"pipelines":[{"micro_batches":4,"stages":[{"layers":"0-2","devices":["a:0"]}]}]}"#;
        assert_eq!(read(plan).unwrap().own_estimate_s, None);
        assert_eq!(
            read(&format!(r#"{{"plan":{plan},"own_estimate_s":2.5}}"#)).unwrap().own_estimate_s,
            Some(2.5)
        );
        for bad in ["", "{}", "[]", r#"{"plan":{}}"#, &format!(r#"{{"plan":{plan},"own_estimate_s":-1}}"#)] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
