//! As much of QMP as a harness needs to start, ask, reset and end a machine.

use serde_json::{Value, json};

/// What a line asked for besides its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Reset,
    Quit,
}

/// One QMP connection.
#[derive(Debug, Default)]
pub(super) struct Qmp {
    negotiated: bool,
}

/// Longest line, bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// The first line, of this side.
pub(super) fn greeting() -> Value {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    let version = json!({
        "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
        "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
        "micro": part(env!("CARGO_PKG_VERSION_PATCH")),
    });
    json!({"QMP": {"version": {"qemu": version, "package": "msix"}, "capabilities": []}})
}

impl Qmp {
    /// Answers one line.
    pub(super) fn answer(&mut self, line: &str) -> (Value, Wish) {
        let request: Value = match serde_json::from_str(line) {
            Ok(request) => request,
            Err(error) => {
                return (failed("GenericError", &format!("no JSON: {error}"), None), Wish::Nothing);
            }
        };
        let id = request.get("id");
        let Some(command) = request.get("execute").and_then(Value::as_str) else {
            return (failed("GenericError", "no command to execute", id), Wish::Nothing);
        };
        let ready = self.negotiated;
        let (value, wish) = match command {
            "qmp_capabilities" if !ready => {
                self.negotiated = true;
                (json!({}), Wish::Nothing)
            }
            "query-status" if ready => {
                let status = json!({"status": "prelaunch", "running": false, "singlestep": false});
                (status, Wish::Nothing)
            }
            "system_reset" if ready => (json!({}), Wish::Reset),
            "quit" if ready => (json!({}), Wish::Quit),
            _ if !ready => {
                let why = "Expecting capabilities negotiation with 'qmp_capabilities'";
                return (failed("CommandNotFound", why, id), Wish::Nothing);
            }
            other => {
                let why = format!("The command {other} has not been found");
                return (failed("CommandNotFound", &why, id), Wish::Nothing);
            }
        };
        let mut answer = json!({"return": value});
        if let Some(id) = id {
            answer["id"] = id.clone();
        }
        (answer, wish)
    }
}

/// An event without data.
pub(super) fn event(name: &str) -> Value {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let timestamp = json!({"seconds": now.as_secs(), "microseconds": now.subsec_micros()});
    json!({"event": name, "timestamp": timestamp})
}

fn failed(class: &str, why: &str, id: Option<&Value>) -> Value {
    let mut answer = json!({"error": {"class": class, "desc": why}});
    if let Some(id) = id {
        answer["id"] = id.clone();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_after_the_negotiation() {
        let mut qmp = Qmp::default();
        let class = |answer: &Value| answer["error"]["class"].clone();
        let (answer, wish) = qmp.answer(r#"{"execute":"quit","id":7}"#);
        assert_eq!((class(&answer), wish), (json!("CommandNotFound"), Wish::Nothing));
        assert_eq!(answer["id"], 7);
        let (answer, _) = qmp.answer(r#"{"execute":"qmp_capabilities","id":"a"}"#);
        assert_eq!(answer, json!({"return": {}, "id": "a"}));
        let (answer, _) = qmp.answer(r#"{"execute":"query-status"}"#);
        assert_eq!(answer["return"]["status"], "prelaunch");
        assert_eq!(qmp.answer(r#"{"execute":"system_reset"}"#).1, Wish::Reset);
        assert_eq!(class(&qmp.answer(r#"{"execute":"migrate"}"#).0), json!("CommandNotFound"));
        for line in ["", "nonsense", "[]", "{}", r#"{"execute":5}"#] {
            assert_eq!(class(&qmp.answer(line).0), json!("GenericError"), "{line}");
        }
        assert_eq!(qmp.answer(r#"{"execute":"quit"}"#), (json!({"return": {}}), Wish::Quit));
    }
}
