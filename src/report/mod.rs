//! How results are shown: tables for people, JSON for programs, timelines for Perfetto.

pub(crate) mod compare;
pub(crate) mod compare_html;
pub(crate) mod explain;
pub(crate) mod explain_html;
pub(crate) mod interrupted;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod links;
pub(crate) mod plan;
pub(crate) mod replay;
pub(crate) mod svg;
pub(crate) mod table;
pub(crate) mod timeline;
