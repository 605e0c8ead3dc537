//! The timeline page in a browser: a script behind the page's own does what a reader does, and says what
//! came of it.

#[expect(unreachable_pub, reason = "it is a part of another crate, too")]
#[path = "../../tests/src/peers.rs"]
mod peers;

mod common;

use common::{Log, msix};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes the page of a log in which two raises of one vector, far apart, lack their messages.
fn page(folder: &Path) -> String {
    let mut log = Log::nvme();
    log.raise(0).message(0x77).idle();
    for _ in 0..10 {
        log.raise(0).message(0x40).idle();
    }
    log.raise(0).message(0x77).idle();
    let (path, file) = (folder.join("guest.log"), folder.join("lanes.html"));
    std::fs::write(&path, log.text).unwrap();
    let ran = msix(&["replay", path.to_str().unwrap(), "--timeline", file.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    std::fs::read_to_string(file).unwrap()
}

/// Runs `script` behind the page's own in a window that is `width` wide, and returns what it puts into
/// `result`. `None` where there is no Chromium.
fn tried(test: &str, width: u32, script: &str) -> Option<Value> {
    let remedy = "apt-get install chromium";
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut version = Command::new(name);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    });
    let Some(browser) = browser else {
        peers::skipped(test, "Chromium", remedy);
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let behind = format!(
        "<script>{{\
         HTMLElement.prototype.setPointerCapture = () => {{}};\
         const result = {{}};\
         const send = (type, more) => canvas.dispatchEvent(new (type === 'wheel' ? WheelEvent : PointerEvent)\
           (type, {{ bubbles: true, cancelable: true, ...more }}));\
         const at = (x, y) => {{ const box = canvas.getBoundingClientRect();\
           return {{ clientX: box.left + x, clientY: box.top + y }}; }};\
         const done = () => {{ try {{ {script} }} catch (error) {{ result.error = String(error); }}\
           parent.postMessage(JSON.stringify(result), '*'); }};\
         setTimeout(done, 50);\
         }}</script></body>"
    );
    let html = page(folder.path()).replace("</body>", &behind);
    std::fs::write(folder.path().join("page.html"), html).unwrap();
    // A window of a browser has a least width; a frame has none.
    let frame = format!(
        "<!DOCTYPE html><iframe width={width} height=600 src=page.html></iframe><pre id=result></pre>\
         <script>onmessage = event => {{ document.getElementById('result').textContent = \
         btoa(event.data); }}</script>"
    );
    let path = folder.path().join("frame.html");
    std::fs::write(&path, frame).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"])
        .args(["--disable-dev-shm-usage", "--virtual-time-budget=20000", "--window-size=1600,900"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said =
        dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (said, _) = said.unwrap_or_else(|| panic!("no result: {dom}\n{stderr}"));
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, said);
    let result: Value = serde_json::from_slice(&decoded.unwrap())
        .unwrap_or_else(|error| panic!("{error}: {said}\n{dom}\n{stderr}"));
    assert_eq!(result["error"], Value::Null, "{result}");
    Some(result)
}

#[test]
fn the_wheel_scrolls_and_with_ctrl_it_zooms() {
    let script = "
        const span = () => to - from;
        result.all = span();
        result.scrolls = send('wheel', { deltaY: 100, ...at(600, 80) });
        result.scrolled = span();
        result.zooms = send('wheel', { deltaY: -200, ctrlKey: true, ...at(600, 80) });
        result.zoomed = span();
        const before = from;
        result.pans = send('wheel', { deltaY: 100, shiftKey: true, ...at(600, 80) });
        result.panned = from - before;";
    let Some(result) = tried("the_wheel_scrolls_and_with_ctrl_it_zooms", 1200, script) else {
        return;
    };
    // An event that nobody prevented does what the browser does: it scrolls.
    assert_eq!(result["scrolls"], true, "{result}");
    assert_eq!(result["scrolled"], result["all"], "{result}");
    assert_eq!((&result["zooms"], &result["pans"]), (&false.into(), &false.into()), "{result}");
    let number = |key: &str| result[key].as_f64().unwrap();
    assert!(number("zoomed") < number("all") && number("panned") > 0.0, "{result}");
}

#[test]
fn a_tap_shows_details_and_a_drag_does_not() {
    let script = "
        const finger = { pointerId: 7, pointerType: 'touch' };
        const [where, row] = flags[0];
        const spot = at(x(where), row.y + 10);
        send('pointerdown', { ...finger, ...spot });
        send('pointerup', { ...finger, ...spot });
        send('pointerleave', { ...finger, ...spot });
        result.tapped = tip.hidden ? '' : tip.textContent;
        zoom(.5, where);
        const aside = at(x(where) + 60, row.y + 10);
        send('pointerdown', { ...finger, ...spot });
        send('pointermove', { ...finger, ...aside });
        send('pointerup', { ...finger, ...aside });
        result.dragged = tip.hidden;
        const span = to - from, other = { pointerId: 8, pointerType: 'touch' };
        send('pointerdown', { ...finger, ...at(400, 60) });
        send('pointerdown', { ...other, ...at(500, 60) });
        send('pointermove', { ...other, ...at(700, 60) });
        send('pointerup', { ...other, ...at(700, 60) });
        send('pointerup', { ...finger, ...at(400, 60) });
        result.pinched = (to - from) / span;
        result.quiet = tip.hidden;";
    let Some(result) = tried("a_tap_shows_details_and_a_drag_does_not", 1200, script) else {
        return;
    };
    let tapped = result["tapped"].as_str().unwrap();
    assert!(tapped.contains("nvme 00:04.0 vector 0") && tapped.contains("MISMATCH"), "{tapped}");
    assert_eq!(result["dragged"], true, "{result}");
    assert!((result["pinched"].as_f64().unwrap() - 1.0 / 3.0).abs() < 0.01, "{result}");
    assert_eq!(result["quiet"], true, "{result}");
}

#[test]
fn a_row_of_the_mismatches_jumps_to_its_place() {
    let script = "
        const rows = [...document.querySelectorAll('#mismatches .jump')];
        result.lines = rows.map(row => Number(row.textContent));
        result.shown = rows.map(row => {
          row.click();
          return { told: tip.textContent, within: flags.filter(([p]) => p >= from && p <= to).map(f => f[2][1]) };
        });
        result.focus = document.activeElement.id;";
    let Some(result) = tried("a_row_of_the_mismatches_jumps_to_its_place", 1200, script) else {
        return;
    };
    let lines = result["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{result}");
    for (line, shown) in lines.iter().zip(result["shown"].as_array().unwrap()) {
        let told = shown["told"].as_str().unwrap();
        assert!(told.contains(&format!("line {line}")), "{line}: {told}");
        assert!(shown["within"].as_array().unwrap().contains(line), "{line}: {shown}");
    }
    assert_eq!(result["focus"], "view");
}

#[test]
fn a_narrow_screen_has_room_for_the_lanes_and_readers_find_the_landmark() {
    let script = "
        result.lanes = width - LABELS;
        result.overflow = document.documentElement.scrollWidth - innerWidth;
        result.view = view.clientHeight;
        result.mains = document.querySelectorAll('main:not([role])').length;
        result.inside = ['view', 'tables', 'mismatches'].every(id => el(id).closest('main'));
        result.buttons = [...document.querySelectorAll('button')].every(b => b.textContent.trim() || b.ariaLabel);";
    for width in [320, 390, 1200] {
        let test = "a_narrow_screen_has_room_for_the_lanes_and_readers_find_the_landmark";
        let Some(result) = tried(test, width, script) else { return };
        assert!(result["lanes"].as_f64().unwrap() >= f64::from(width) * 0.6, "{width}: {result}");
        assert!(result["overflow"].as_i64().unwrap() <= 0, "{width}: {result}");
        assert!(result["view"].as_f64().unwrap() >= 160.0, "{width}: {result}");
        assert_eq!((&result["mains"], &result["inside"]), (&1.into(), &true.into()), "{result}");
        assert_eq!(result["buttons"], true);
    }
}
