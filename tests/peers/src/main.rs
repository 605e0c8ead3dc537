//! Prints the column of a peer: `alioth`, or `usbvfiod PROGRAM`.

use msix_registry_peers::peer::{alioth, usbvfiod};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = match arguments.as_slice() {
        ["alioth"] => alioth().text(200)?,
        ["usbvfiod", program] => usbvfiod(program.into()).text(200)?,
        _ => return Err("usage: alioth | usbvfiod PROGRAM".to_owned()),
    };
    print!("{text}");
    Ok(())
}
