//! Prints the column of a peer: `alioth`, `alioth-virtio`, `usbvfiod PROGRAM`, or `usbvfiod-events PROGRAM`.

use msix_registry_peers::peer::{alioth, alioth_virtio, usbvfiod, usbvfiod_events};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = match arguments.as_slice() {
        ["alioth"] => alioth().text(200)?,
        ["alioth-virtio"] => alioth_virtio().text(200)?,
        ["usbvfiod", program] => usbvfiod(program.into()).text(200)?,
        ["usbvfiod-events", program] => usbvfiod_events(program.into()).text(200)?,
        _ => {
            return Err(
                "usage: alioth | alioth-virtio | usbvfiod PROGRAM | usbvfiod-events PROGRAM"
                    .to_owned(),
            );
        }
    };
    print!("{text}");
    Ok(())
}
