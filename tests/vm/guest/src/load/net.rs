//! A virtio and an e1000e network card on one cable: datagrams go from the one to the other and come
//! back, one at a time.

use super::{Shared, await_found};
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The port at either end.
const PORT: u16 = 4000;
/// Bytes of a datagram.
const LENGTH: usize = 1000;
/// Wait for an answer before the next question: long even where other programs have the processors.
const ANSWER: Duration = Duration::from_secs(5);
/// IFF_UP and IFF_MULTICAST.
const UP: &str = "0x1001";
/// IFA_F_TENTATIVE: the address is being looked for on the cable.
const TENTATIVE: u32 = 0x40;

/// Either end.
pub(super) struct Link {
    here: End,
    there: End,
}

struct End {
    /// What the names of its interrupts begin with.
    interrupts: String,
    socket: UdpSocket,
    address: SocketAddrV6,
}

/// What became of the datagrams.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pub(super) returned: AtomicU64,
    /// Came when they were given up: as it is when an interrupt is lost, and the next one brings two.
    pub(super) late: AtomicU64,
    /// Never came.
    pub(super) lost: AtomicU64,
}

impl Link {
    /// Waits for both cards, and brings them up.
    pub(super) fn up() -> Result<Self, String> {
        Ok(Self { here: End::up("virtio_net")?, there: End::up("e1000e")? })
    }

    /// Returns what the names of the interrupts of each begin with.
    pub(super) fn names(&self) -> [String; 2] {
        [self.here.interrupts.clone(), self.there.interrupts.clone()]
    }

    /// Sends back what comes.
    pub(super) fn echo(&self, shared: &Shared) -> Result<(), String> {
        let mut datagram = [0; LENGTH + 1];
        while shared.goes_on() {
            match self.there.socket.recv_from(&mut datagram) {
                Ok((length, from)) => {
                    let sent = self.there.socket.send_to(&datagram[..length], from);
                    sent.map_err(|error| format!("e1000e: {error}"))?;
                }
                Err(error) if is_late(&error) => {}
                Err(error) => return Err(format!("e1000e: {error}")),
            }
        }
        Ok(())
    }

    /// Sends one datagram after the other; each must come back as it was.
    pub(super) fn ping(&self, shared: &Shared, pings: &Pings) -> Result<(), String> {
        // By the card at this end: the scope of an address names it.
        let mut to = self.there.address;
        to.set_scope_id(self.here.address.scope_id());
        let mut answer = [0; LENGTH + 1];
        let mut number = 0_u64;
        while shared.goes_on() {
            number += 1;
            let mut question = [number as u8; LENGTH];
            question[..8].copy_from_slice(&number.to_le_bytes());
            let sent = self.here.socket.send_to(&question, to);
            sent.map_err(|error| format!("virtio_net: {error}"))?;
            // An answer that was given up may come later.
            let returned = loop {
                match self.here.socket.recv(&mut answer) {
                    Ok(length) if answer[..length] == question => break true,
                    Ok(LENGTH) if number_of(&answer) < number => {
                        pings.lost.fetch_sub(1, Ordering::Relaxed);
                        pings.late.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(length) => return Err(format!("a bad datagram of {length} bytes")),
                    Err(error) if is_late(&error) => break false,
                    Err(error) => return Err(format!("virtio_net: {error}")),
                }
            };
            if !returned && !shared.goes_on() {
                break; // the other end is gone
            }
            let counter = if returned { &pings.returned } else { &pings.lost };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl End {
    fn up(driver: &str) -> Result<Self, String> {
        let card = await_found(driver, || card_of(driver))?;
        let name = card.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = |error: std::io::Error| format!("{name}: {error}");
        fs::write(card.join("flags"), UP).map_err(named)?;
        let address = await_found(&format!("address of {name}"), || address_of(&name))?;
        let socket = UdpSocket::bind(address).map_err(named)?;
        socket.set_read_timeout(Some(ANSWER)).map_err(named)?;
        let interrupts = if driver == "virtio_net" {
            let device = fs::read_link(card.join("device")).map_err(named)?;
            format!("{}-", device.file_name().unwrap_or_default().to_string_lossy())
        } else {
            name.clone()
        };
        Ok(Self { interrupts, socket, address })
    }
}

/// The folder in sysfs of the first card with this driver.
fn card_of(driver: &str) -> Result<Option<PathBuf>, String> {
    let cards = fs::read_dir("/sys/class/net").map_err(|error| error.to_string())?;
    let has = |card: &PathBuf| {
        fs::read_link(card.join("device/driver")).is_ok_and(|path| path.ends_with(driver))
    };
    Ok(cards.flatten().map(|card| card.path()).find(has))
}

/// The address that a card gave itself, once it is sure that it has it alone. A line of the file is
/// `fe80000000000000505400fffe123456 02 40 20 80 eth0`.
fn address_of(name: &str) -> Result<Option<SocketAddrV6>, String> {
    let text = fs::read_to_string("/proc/net/if_inet6").map_err(|error| error.to_string())?;
    let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut mine = line.filter_map(|words| match words[..] {
        [address, index, _, _, flags, whose] if whose == name => Some((address, index, flags)),
        _ => None,
    });
    let Some((address, index, flags)) = mine.next() else { return Ok(None) };
    let number = |text| u32::from_str_radix(text, 16).map_err(|error| error.to_string());
    if number(flags)? & TENTATIVE != 0 {
        return Ok(None);
    }
    let address = u128::from_str_radix(address, 16).map_err(|error| error.to_string())?;
    Ok(Some(SocketAddrV6::new(Ipv6Addr::from_bits(address), PORT, 0, number(index)?)))
}

/// The number of the question that this is the answer to.
fn number_of(answer: &[u8; LENGTH + 1]) -> u64 {
    answer.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
