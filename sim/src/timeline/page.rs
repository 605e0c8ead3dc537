//! The page: one self-contained HTML file.

use super::lanes::{MAX_ITEMS, Timeline};
use crate::printable::{printable, printable_json};
use crate::report::ReplayReport;
use askama::Template;

#[derive(Template)]
#[template(path = "timeline.html")]
struct Page<'a> {
    /// What was replayed.
    source: &'a str,
    report: &'a ReplayReport,
    verdict: String,
    limit: usize,
    /// The data as JSON that is inert inside a script element.
    data: String,
}

/// Renders the page.
///
/// # Errors
/// Only if the data cannot be written as JSON or the template cannot be filled in.
pub fn render(
    source: &str,
    report: &ReplayReport,
    timeline: &Timeline,
) -> Result<String, askama::Error> {
    let json = serde_json::to_string(timeline).map_err(askama::Error::from)?;
    let json = printable_json(&json);
    let page =
        Page { source, report, verdict: report.verdict(), limit: MAX_ITEMS, data: inert(&json) };
    Ok(printable(&page.render()?).into_owned())
}

/// A device name from a log must not end the script element: `<` occurs in JSON only in strings,
/// where it may be written as an escape.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_log_cannot_leave_the_script_element() {
        let json = serde_json::to_string("</script><!--&").unwrap();
        let safe = inert(&json);
        assert!(!safe.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "</script><!--&");
    }
}
