//! A way through the states of a function as a script.

use super::explored::Explored;
use super::moment::Found;
use crate::script::ScriptInput;
use msix_core::operation::FunctionOperation;
use msix_core::{Effects, FunctionEffect, IntxSource, Vector};
use std::fmt::Write as _;

/// Writes the script of `inputs`, given to `function`, after which `found` was found.
pub(super) fn script<'a>(
    mut function: Explored,
    policy: &str,
    found: &Found,
    inputs: impl Iterator<Item = &'a FunctionOperation>,
) -> String {
    let physical = function.intx().is_some_and(|intx| intx.source() == IntxSource::Physical);
    let pin = if physical { "physical" } else { "emulated" };
    let mut text = format!(
        "{}\nvectors 2\npolicy {policy}\npin {pin}\n# violated: {}\n",
        FunctionOperation::HEADER,
        found.property
    );
    // Writing to a String does not fail.
    claims(&mut text, |_| true);
    for input in inputs {
        let _ = writeln!(text, "{}", input.line());
        input.apply(&mut function, &mut [0; 256], &mut Effects::<14, FunctionEffect>::new());
        if *input == FunctionOperation::Reset {
            // As the explored device does (C01).
            claims(&mut text, |v| function.msix().is_some_and(|msix| msix.claims(v) == Some(0)));
        }
    }
    let _ = writeln!(text, "# {}", found.detail);
    text
}

fn claims(text: &mut String, due: impl Fn(Vector) -> bool) {
    for v in [0, 1].map(Vector::new).into_iter().filter(|v| due(*v)) {
        let _ = writeln!(text, "{}", FunctionOperation::Claim(v).line());
    }
}
