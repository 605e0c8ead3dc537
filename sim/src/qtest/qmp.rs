//! As much of QMP as a harness needs to start, ask, reset and end a machine.

use serde_json::{Value, json};

/// What a line asked for besides its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Reset,
    Quit,
    Become(Status),
}

/// What QMP says of the processors, of which there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Prelaunch,
    Paused,
    Running,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Prelaunch => "prelaunch",
            Self::Paused => "paused",
            Self::Running => "running",
        }
    }
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
    /// Whether events are sent to it.
    pub(super) const fn is_ready(&self) -> bool {
        self.negotiated
    }

    /// Answers one line.
    pub(super) fn answer(&mut self, line: &str, status: Status) -> (Value, Wish) {
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
                let running = status == Status::Running;
                let status = status.name();
                let status = json!({"status": status, "running": running, "singlestep": false});
                (status, Wish::Nothing)
            }
            "query-machines" if ready => {
                let machine =
                    |name| json!({"name": name, "hotpluggable-cpus": false, "cpu-max": 0});
                (["none", "pc", "q35"].map(machine).to_vec().into(), Wish::Nothing)
            }
            "cont" if ready => (json!({}), Wish::Become(Status::Running)),
            "stop" if ready && status == Status::Running => {
                (json!({}), Wish::Become(Status::Paused))
            }
            "stop" if ready => (json!({}), Wish::Nothing),
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

    fn ask(qmp: &mut Qmp, line: &str) -> (Value, Wish) {
        qmp.answer(line, Status::Prelaunch)
    }

    #[test]
    fn commands_are_taken_after_the_negotiation() {
        let mut qmp = Qmp::default();
        let class = |answer: &Value| answer["error"]["class"].clone();
        let (answer, wish) = ask(&mut qmp, r#"{"execute":"quit","id":7}"#);
        assert_eq!((class(&answer), wish), (json!("CommandNotFound"), Wish::Nothing));
        assert_eq!(answer["id"], 7);
        let (answer, _) = ask(&mut qmp, r#"{"execute":"qmp_capabilities","id":"a"}"#);
        assert_eq!(answer, json!({"return": {}, "id": "a"}));
        let (answer, _) = ask(&mut qmp, r#"{"execute":"query-status"}"#);
        assert_eq!(answer["return"]["status"], "prelaunch");
        assert_eq!(answer["return"]["running"], false);
        let running = Wish::Become(Status::Running);
        assert_eq!(ask(&mut qmp, r#"{"execute":"cont"}"#).1, running);
        assert_eq!(ask(&mut qmp, r#"{"execute":"stop"}"#).1, Wish::Nothing, "it is stopped");
        let paused = Wish::Become(Status::Paused);
        assert_eq!(qmp.answer(r#"{"execute":"stop"}"#, Status::Running).1, paused);
        let (answer, _) = qmp.answer(r#"{"execute":"query-status"}"#, Status::Running);
        assert_eq!(
            (&answer["return"]["status"], &answer["return"]["running"]),
            (&json!("running"), &json!(true))
        );
        let (answer, _) = ask(&mut qmp, r#"{"execute":"query-machines"}"#);
        assert_eq!(answer["return"][2]["name"], "q35");
        assert_eq!(ask(&mut qmp, r#"{"execute":"system_reset"}"#).1, Wish::Reset);
        assert_eq!(class(&ask(&mut qmp, r#"{"execute":"migrate"}"#).0), json!("CommandNotFound"));
        for line in ["", "nonsense", "[]", "{}", r#"{"execute":5}"#] {
            assert_eq!(class(&ask(&mut qmp, line).0), json!("GenericError"), "{line}");
        }
        assert_eq!(ask(&mut qmp, r#"{"execute":"quit"}"#), (json!({"return": {}}), Wish::Quit));
    }
}
