//! Plays one history, and tells what happens: the name of a setup, how many vectors, then inputs as they
//! are printed, one an argument, or all in one, a line each.

use msix_world::{Setup, Step, World};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, vectors, inputs @ ..] = &arguments[..] else { return };
    let setups = Setup::several(vectors.parse().unwrap_or(1));
    let Some((_, setup)) = setups.into_iter().chain(Setup::single()).find(|(n, _)| n == name)
    else {
        return;
    };
    let mut world = World::new(setup, None);
    let mut lines = inputs.iter().flat_map(|text| text.lines()).map(str::trim);
    for step in steps(&setup, &mut lines) {
        let judged = world.step(&step);
        println!("{step:?}: {judged:?}\n    {world:?}");
    }
    println!("the end: {:?}\n    {world:?}", world.close());
}

/// Inputs up to a closing brace; in braces, those of another function, whose snapshot is at hand then.
fn steps<'a>(setup: &Setup, lines: &mut impl Iterator<Item = &'a str>) -> Vec<Step> {
    let alphabet = [setup.alphabet(), setup.failures()].concat();
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        match line {
            "{" => steps.push(Step::Snapshot(self::steps(setup, lines))),
            "}" => break,
            _ => match alphabet.iter().find(|input| format!("{input:?}") == line) {
                Some(input) => steps.push(Step::Input(*input)),
                None => println!("no such input: {line}"),
            },
        }
    }
    steps
}
