//! The host around the engine: what it was told, what it could not do, what it holds and what it
//! has not answered yet.

use super::engine::List;
use super::property::{Found, Property, must};
use super::registers::MAX_EXPLORED;
use super::tampering::SeededEngine;
use super::world::MsixWorld;
use msix_core::{Effect, Message, Storage, Vectors};

/// How far an Arm or Reroute that failed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Failure {
    /// It did not fail.
    #[default]
    None,
    /// It failed, and the engine was not told yet.
    Unreported,
    /// It failed, and the engine knows.
    Reported,
}

/// What the host has for one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Line {
    /// It was told to arm the vector, and not to disarm it since.
    pub(crate) armed: bool,
    /// With this message.
    pub(crate) message: Message,
    pub(crate) failure: Failure,
    /// It holds an event; more than one are one, as in an eventfd that nobody reads (K8).
    pub(crate) held: bool,
    /// It gave an event up for a Poll and its answer is under way.
    pub(crate) answer: bool,
    /// The guest is half through a new message of this live vector (H4).
    pub(crate) rewriting: bool,
}

impl Line {
    /// Whether the host delivers an event of this vector by itself.
    pub(crate) fn delivers(&self) -> bool {
        self.armed && self.failure == Failure::None
    }
}

/// The host, and the facts of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) attached: bool,
    pub(crate) bus_master: bool,
    /// A snapshot was loaded and not resumed.
    pub(crate) loading: bool,
    /// Enable, as it was when INTx was told last (A10).
    pub(crate) intx_told: bool,
    pub(crate) lines: [Line; MAX_EXPLORED],
}

impl Host {
    pub(crate) const START: Self = Self {
        attached: false,
        bus_master: true,
        loading: false,
        intx_told: false,
        lines: [Line {
            armed: false,
            message: Message { address: 0, data: 0 },
            failure: Failure::None,
            held: false,
            answer: false,
            rewriting: false,
        }; MAX_EXPLORED],
    };
}

/// What a list asked for; sets of explored vectors, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) polled: u8,
    pub(crate) disarmed: u8,
    pub(crate) drained: u8,
    pub(crate) armed: u8,
    pub(crate) rerouted: u8,
    pub(crate) sent: u8,
    /// Events the host held and delivered when the vector was armed.
    pub(crate) delivered: u8,
    pub(crate) deassert: bool,
    pub(crate) reevaluate: bool,
    /// How many effects.
    pub(crate) effects: usize,
    /// Arms and Reroutes that could have failed.
    pub(crate) could_fail: u8,
}

impl Host {
    /// Carries a list out; the Arms and Reroutes of `fail` fail. Adds what it asked for to `done`.
    pub(crate) fn carry_out<S: Storage + Clone>(
        &mut self,
        world: &MsixWorld<S>,
        engine: &SeededEngine<S>,
        fx: &mut List,
        fail: u8,
        done: &mut Done,
    ) -> Result<(), Found> {
        let mut last = 0;
        while let Some(effect) = fx.take() {
            done.effects += 1;
            must(rank(effect) >= last, Property::Order, || format!("{effect:?} came too late"))?;
            last = rank(effect);
            let members = world.members(effect.vectors());
            match effect {
                Effect::IntxDeassert => done.deassert = true,
                Effect::IntxReevaluate => done.reevaluate = true,
                Effect::Snoop(_) => {}
                Effect::Poll(_) => {
                    done.polled |= members;
                    self.each(members, |_, line| line.answer |= std::mem::take(&mut line.held));
                }
                Effect::Drain(_) => {
                    done.drained |= members;
                    self.each(members, |_, line| line.held = false);
                }
                Effect::Disarm(set) => {
                    touches(world, set, members)?;
                    must(self.all_armed(members), Property::Told, || {
                        format!("{effect:?}, but not all of them are armed")
                    })?;
                    done.disarmed |= members;
                    self.each(members, |_, line| {
                        let (held, answer) = (line.held, line.answer);
                        *line = Line { held, answer, ..Line::default() };
                    });
                }
                Effect::Arm(set) => {
                    touches(world, set, members)?;
                    must(!self.any_armed(members), Property::Told, || {
                        format!("{effect:?}, but some of them are armed already")
                    })?;
                    done.armed |= members;
                    done.could_fail |= members;
                    let mut delivered = 0;
                    self.each(members, |index, line| {
                        line.armed = true;
                        line.message = message(world, engine, index);
                        if fail >> index & 1 != 0 {
                            line.failure = Failure::Unreported;
                        } else if std::mem::take(&mut line.held) {
                            delivered |= 1 << index; // K7
                        }
                    });
                    done.delivered |= delivered;
                }
                Effect::Reroute(set) => {
                    touches(world, set, members)?;
                    must(self.all_armed(members), Property::Told, || {
                        format!("{effect:?}, but not all of them are armed")
                    })?;
                    done.rerouted |= members;
                    let mut could_fail = 0;
                    self.each(members, |index, line| {
                        line.message = message(world, engine, index);
                        could_fail |= u8::from(line.delivers()) << index;
                        if line.delivers() && fail >> index & 1 != 0 {
                            line.failure = Failure::Unreported;
                        }
                    });
                    done.could_fail |= could_fail;
                }
                Effect::Send(set) => {
                    touches(world, set, members)?;
                    done.sent |= members;
                }
            }
        }
        Ok(())
    }

    fn each(&mut self, members: u8, mut change: impl FnMut(usize, &mut Line)) {
        for (index, line) in self.lines.iter_mut().enumerate() {
            if members >> index & 1 != 0 {
                change(index, line);
            }
        }
    }

    fn all_armed(&self, members: u8) -> bool {
        (0..MAX_EXPLORED).all(|index| members >> index & 1 == 0 || self.lines[index].armed)
    }

    fn any_armed(&self, members: u8) -> bool {
        (0..MAX_EXPLORED).any(|index| members >> index & 1 != 0 && self.lines[index].armed)
    }
}

/// Nothing is said of vectors that nobody touched.
fn touches<S: Storage + Clone>(
    world: &MsixWorld<S>,
    set: Vectors,
    members: u8,
) -> Result<(), Found> {
    must(set.bits().count_ones() == members.count_ones() && set.bits() != 0, Property::Idle, || {
        format!("an effect speaks of {set:?}, and only {:?} are explored", world.at)
    })
}

fn message<S: Storage>(world: &MsixWorld<S>, engine: &SeededEngine<S>, index: usize) -> Message {
    world.at.get(index).and_then(|v| engine.msix().message(*v)).unwrap_or_default()
}

/// Place of a kind in a list (I5).
const fn rank(effect: Effect) -> u8 {
    match effect {
        Effect::IntxDeassert => 0,
        Effect::Poll(_) => 1,
        Effect::Disarm(_) => 2,
        Effect::Drain(_) => 3,
        Effect::Arm(_) => 4,
        Effect::Reroute(_) => 5,
        Effect::Snoop(_) => 6,
        Effect::Send(_) => 7,
        Effect::IntxReevaluate => 8,
    }
}
