//! Judges everything in this project by the conformance suite. `--json`: for programs.

use msix_tests::conformance::{Report, Verdict, deviations, run, subjects};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let reports: Vec<Report> = subjects().iter().map(|subject| run(subject.as_ref())).collect();
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", serde_json::to_string_pretty(&reports)?);
        return Ok(());
    }
    for report in reports {
        println!("{report}");
        for deviation in deviations(&report.subject) {
            let verdict = report.results.iter().find(|result| result.id == deviation.case);
            if let Some(Verdict::Failed { .. }) = verdict.map(|result| &result.verdict) {
                println!(
                    "  {} is expected ({}): {}",
                    deviation.case, deviation.rule, deviation.why
                );
            }
        }
        println!();
    }
    Ok(())
}
