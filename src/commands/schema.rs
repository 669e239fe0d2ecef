//! `tideplan schema`: the JSON Schema of a scenario file, or of a plan.

use super::print;
use crate::cli::{Schema, SchemaOf};
use crate::failure::{Answer, Failure};

pub(super) fn run(args: &Schema) -> Result<Answer, Failure> {
    let schema = match args.of {
        SchemaOf::Scenario => scenarios::schema(),
        SchemaOf::Plan => scenarios::plan_schema(),
    };
    print(&format!("{schema:#}\n"))?;
    Ok(Answer::Yes)
}
