//! The rows that can be measured; each is one file.

mod f1;
mod f10;
mod f11;
mod f16;
mod f17;
mod f2;
mod f3;
mod f4;
mod f5;
mod f6;
mod f7;
mod f8;

use crate::{bench::Bench, report::Report};
use anyhow::Result;

/// One line of the requirements on speed.
pub(crate) struct Row {
    /// As it is called on the command line.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) run: fn(&Bench, &mut Report) -> Result<()>,
}

/// All of them.
pub(crate) static ROWS: &[Row] = &[
    f1::ROW,
    f2::ROW,
    f3::ROW,
    f4::ROW,
    f5::ROW,
    f6::ROW,
    f7::ROW,
    f8::ROW,
    f10::ROW,
    f11::ROW,
    f16::ROW,
    f17::ROW,
];
