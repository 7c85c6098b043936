#![doc = include_str!("../README.md")]

mod budget;
mod check;
mod contract;
mod deny;
mod finding;
mod formats;
mod layers;
mod manifest;
mod map;
mod program;
mod sizes;
mod tree;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((chore, names)) if chore == "check" => {
            check::Check::chosen(names).and_then(|list| check::run(&list))
        }
        _ => Err(anyhow::anyhow!("usage: cargo xtask check [{}]", check::Check::names())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            finding::tell(&format!("xtask: {error:#}"));
            ExitCode::from(2)
        }
    }
}
