//! C01 to C11: what a guest reads and writes.

use super::adapter::NoDevice;
use super::bench::{Bench, Outcome, Stop, entry, message_of};
use super::choices::{TableAccess, VectorControlBits};
use super::lab::Lab;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn c01(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    bench.did("made");
    is_reset(&mut bench)?;
    let none = vec![0; lab.looked_at().len()];
    let made = claims(&mut bench).unwrap_or_else(|| none.clone());
    bench.expect("claims", &made, &none)?;
    let mut bench = lab.ready()?;
    if bench.device.function_reset().is_none() {
        lab.note("reset is not offered: only a new device was looked at");
        return Ok(());
    }
    for (i, v) in lab.sample().into_iter().enumerate() {
        if i % 2 == 0 {
            bench.unmask(v);
        }
        bench.fire(v)?;
    }
    bench.enable_masked();
    let before = claims(&mut bench);
    bench.reset()?;
    is_reset(&mut bench)?;
    let after = claims(&mut bench);
    if after != before && after.as_ref().is_some_and(|counts| counts.iter().all(|n| *n == 0)) {
        lab.note("a reset ends the claims: the device must claim its vectors again (H8)");
        return Ok(());
    }
    bench.expect("claims after the reset, as before", &after, &before)
}

fn claims(bench: &mut Bench<'_>) -> Option<Vec<u32>> {
    let vectors = bench.lab.looked_at();
    let claims = bench.device.claims()?;
    Some(vectors.iter().map(|v| claims.count(u32::from(*v)).unwrap_or(u32::MAX)).collect())
}

fn is_reset(bench: &mut Bench<'_>) -> Outcome {
    let [size_low, size_high] = (bench.lab.n - 1).to_le_bytes();
    let config = bench.config();
    bench.expect("capability id", &config[0], &0x11)?;
    bench.expect("Message Control", &[config[2], config[3]], &[size_low, size_high])?;
    for v in bench.lab.looked_at() {
        let control = bench.dword(v, 3);
        bench.did(format!("read v{v}+c"));
        bench.expect("Vector Control", &(control & 0xffff), &1)?;
    }
    let (pba, words) = (bench.pba(), usize::from(bench.lab.n.div_ceil(64)));
    bench.expect("PBA", &pba, &vec![0; words])?;
    Ok(())
}

pub(super) fn c02(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    let before = bench.config();
    let mut ones = before;
    ones[3] |= 0xc0;
    bench.write_config(0, &[0xff; 4]);
    let got = bench.config();
    bench.expect("capability", &got, &ones)?;
    bench.write_config(0, &[0; 4]);
    let got = bench.config();
    bench.expect("capability", &got, &before)
}

pub(super) fn c03(lab: &Lab<'_>) -> Outcome {
    for first in CONTROLS {
        for second in CONTROLS {
            let mut bench = lab.fresh()?;
            let mut expected = bench.config();
            expected[3] |= second;
            for (offset, len) in [(3, 1), (2, 2), (0, 4), (3, 2), (1, 4), (2, 4), (3, 4)] {
                bench.write_config(3, &[first]);
                let mut bytes = vec![0xff; len];
                bytes[3 - offset] = second;
                bench.write_config(offset, &bytes);
                let got = bench.config();
                bench.expect("capability", &got, &expected)?;
            }
        }
    }
    Ok(())
}

pub(super) fn c04(lab: &Lab<'_>) -> Outcome {
    for control in CONTROLS {
        let mut bench = lab.fresh()?;
        bench.write_config(3, &[control]);
        let before = bench.config();
        for fill in [0x00, 0xff] {
            for offset in 4..12 {
                for len in [1, 2, 4, 8] {
                    bench.write_config(offset, &vec![fill; len]);
                    let got = bench.config();
                    bench.expect("capability", &got, &before)?;
                }
            }
            // H19: what does not cover byte 3 says nothing about it.
            for (offset, len) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)] {
                bench.write_config(offset, &vec![fill; len]);
                let got = bench.config();
                bench.expect("capability", &got, &before)?;
            }
        }
    }
    Ok(())
}

pub(super) fn c05(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    for v in [0, lab.n - 1] {
        let values = [0xfee1_2340, 0x89ab_cdef, 0xdead_beef, 1];
        for (field, value) in (0..).zip(values) {
            bench.set_dword(v, field, value);
            let got = bench.dword(v, field);
            bench.expect("dword read back", &got, &value)?;
        }
        let got = (bench.read_table(entry(v), 8), bench.read_table(entry(v) + 8, 8));
        let expected = (bytes_of(&values[..2]), bytes_of(&values[2..]));
        bench.expect("the same as qwords", &got, &expected)?;

        let values = [0xfee0_5674, 0x0123_4567, 0xfeed_f00d, 1];
        bench.write_table(entry(v), &bytes_of(&values[..2]));
        bench.write_table(entry(v) + 8, &bytes_of(&values[2..]));
        let got = bench.entry(v);
        bench.expect("qwords read back as dwords", &got, &values)?;
    }
    for v in [1, lab.n.saturating_sub(2)] {
        if 0 < v && v < lab.n - 1 {
            let got = (bench.dword(v, 1), bench.dword(v, 3) & 1);
            bench.did(format!("read v{v}+4, +c"));
            bench.expect("an entry beside them", &got, &(0, 1))?;
        }
    }
    Ok(())
}

pub(super) fn c06(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let end = if lab.n > 1 { 32 } else { 16 };
    for offset in 0..16_u64 {
        for len in (1..=8_u64).filter(|len| offset + len <= end) {
            let defined = matches!(len, 4 | 8) && offset.is_multiple_of(len);
            for v in 0..(end / 16) as u16 {
                bench.program(v, message_of(v));
                bench.mask(v);
            }
            let before = bench.read_entries(end);
            let got = bench.read_table(offset, len as usize);
            bench.did(format!("table read of {len} at {offset:#x}"));
            if let Some(reached) = reached(lab, offset, len, defined) {
                let expected: Vec<u8> = (offset..offset + len)
                    .map(|at| if reached(at) { before[at as usize] } else { 0 })
                    .collect();
                bench.expect("bytes read", &got, &expected)?;
            }
            // Odd bytes: a vector that is reached stays masked.
            bench.write_table(offset, &vec![0xa5; len as usize]);
            let after = bench.read_entries(end);
            for at in (0..end).filter(|at| !(offset..offset + len).contains(at)) {
                let (got, expected) = (after[at as usize], before[at as usize]);
                bench.expect(&format!("neighbour byte {at:#x}"), &got, &expected)?;
            }
            let kept = lab.choices.kept_control_bits();
            if let (Some(reached), Some(kept)) = (reached(lab, offset, len, defined), kept) {
                let masks = [u32::MAX, u32::MAX, u32::MAX, kept | 1].map(u32::to_le_bytes);
                for at in offset..offset + len {
                    let mask = masks.as_flattened()[(at % 16) as usize];
                    let expected = if reached(at) { 0xa5 & mask } else { before[at as usize] };
                    let got = after[at as usize];
                    bench.expect(&format!("byte {at:#x}"), &got, &expected)?;
                }
            }
        }
    }
    if lab.choices.table_access.is_none() {
        lab.note("widths other than 4 and 8 are not predicted: table access not declared");
    }
    c06_pba(lab)
}

/// The PBA is read no differently, and a write of any width changes nothing.
fn c06_pba(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for v in lab.sample() {
        bench.fire(v)?;
    }
    let bytes = bytes_of64(&bench.pba());
    for offset in 0..8_u64 {
        for len in (1..=8_u64).filter(|len| offset + len <= 8) {
            let defined = matches!(len, 4 | 8) && offset.is_multiple_of(len);
            let got = bench.read_pba(offset, len as usize);
            bench.did(format!("PBA read of {len} at {offset}"));
            if let Some(reached) = reached(lab, offset, len, defined) {
                let byte = |at: u64| if reached(at) { bytes[at as usize] } else { 0 };
                let expected: Vec<u8> = (offset..offset + len).map(byte).collect();
                bench.expect("bytes read", &got, &expected)?;
            }
            bench.device.write_pba(offset, &vec![0xff; len as usize]);
        }
    }
    let got = bytes_of64(&bench.pba());
    bench.expect("PBA after odd writes", &got, &bytes)
}

/// Which bytes an access carries out; `None` when the subject's choice is not known.
fn reached(lab: &Lab<'_>, offset: u64, len: u64, defined: bool) -> Option<impl Fn(u64) -> bool> {
    let choice = if defined { Some(TableAccess::Dwords) } else { lab.choices.table_access };
    let dwords = choice? == TableAccess::Dwords;
    Some(move |at: u64| {
        let dword = at / 4 * 4;
        dwords && offset <= dword && dword + 4 <= offset + len
    })
}

impl Bench<'_> {
    fn read_entries(&mut self, end: u64) -> Vec<u8> {
        (0..end / 4).flat_map(|dword| self.read_table(4 * dword, 4)).collect()
    }
}

pub(super) fn c07(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let last = lab.n - 1;
    bench.fire(last)?;
    let before = bench.image();
    let table = entry(lab.n);
    let pba = 8 * u64::from(lab.n.div_ceil(64));
    for beyond in [0, 8, 0x1000, 0x10_0000, u64::MAX - 7 - table] {
        for len in [4, 8] {
            let got = bench.read_table(table + beyond, len);
            bench.did(format!("table read of {len} at {:#x}", table + beyond));
            bench.expect("past the table", &got, &vec![0xff; len])?;
            bench.write_table(table + beyond, &vec![0; len]);
        }
    }
    for beyond in [0, 8, 0x1000, 0x10_0000, u64::MAX - 7 - pba] {
        for len in [4, 8] {
            let got = bench.read_pba(pba + beyond, len);
            bench.did(format!("PBA read of {len} at {:#x}", pba + beyond));
            bench.expect("past the PBA", &got, &vec![0xff; len])?;
            bench.device.write_pba(pba + beyond, &vec![0; len]);
        }
    }
    let after = bench.image();
    bench.expect("the registers afterwards", &after, &before)?;
    bench.expect_silence()
}

pub(super) fn c08(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let mut expected = vec![0_u64; usize::from(lab.n.div_ceil(64))];
    for v in lab.sample() {
        bench.fire(v)?;
        expected[usize::from(v / 64)] |= 1 << (v % 64);
        pba_is(&mut bench, &expected)?;
    }
    let mut bench = lab.fresh()?;
    for v in 0..lab.n {
        bench.claim_if_offered(v)?;
    }
    bench.enable();
    for v in 0..lab.n {
        bench.fire(v)?;
    }
    for (word, bits) in (0..).zip(&mut expected) {
        let inside = u32::from(lab.n) - 64 * word;
        *bits = if inside >= 64 { u64::MAX } else { (1 << inside) - 1 };
    }
    pba_is(&mut bench, &expected)
}

fn pba_is(bench: &mut Bench<'_>, expected: &[u64]) -> Outcome {
    let bytes = bytes_of64(expected);
    for len in [4, 8] {
        for (offset, expected) in (0..).step_by(len).zip(bytes.chunks(len)) {
            let got = bench.read_pba(offset, len);
            if got != expected {
                bench.did(format!("PBA read of {len} at {offset:#x}"));
                bench.expect("PBA", &got.as_slice(), &expected)?;
            }
        }
    }
    Ok(())
}

pub(super) fn c09(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let sample = lab.sample();
    for v in sample.iter().step_by(2) {
        bench.fire(*v)?;
    }
    let before = bench.image();
    for fill in [0x00, 0xff] {
        for v in &sample {
            let offset = u64::from(v / 64) * 8;
            for (offset, len) in [(offset, 8), (offset, 4), (offset + 4, 4), (offset, 1)] {
                bench.did(format!("PBA write of {len} at {offset:#x}: {fill:02x}"));
                bench.device.write_pba(offset, &vec![fill; len]);
            }
            let after = bench.image();
            bench.expect("the registers afterwards", &after, &before)?;
        }
    }
    bench.expect_silence()
}

pub(super) fn c10(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for v in lab.sample() {
        for reserved in [0xffff_fffe_u32, 0x0000_fffe, 0x1234_0000] {
            bench.set_dword(v, 3, reserved);
            let got = bench.dword(v, 3);
            let expected = match lab.choices.kept_control_bits() {
                Some(kept) => reserved & kept,
                None => seen_control_bits(lab, reserved, got),
            };
            bench.expect("Vector Control read back", &got, &expected)?;
            bench.fire(v)?;
            bench.expect_message(v)?; // only bit 0 masks
            bench.set_dword(v, 3, reserved | 1);
            let got = bench.dword(v, 3);
            bench.expect("Vector Control read back", &got, &(expected | 1))?;
            bench.fire(v)?;
            bench.expect_silence()?;
            bench.unmask(v);
            bench.expect_message(v)?;
        }
    }
    Ok(())
}

/// What a subject that declares nothing may keep of `written`.
fn seen_control_bits(lab: &Lab<'_>, written: u32, got: u32) -> u32 {
    let alternatives = [
        (0xffff_fffe, VectorControlBits::Verbatim),
        (0xffff_0000, VectorControlBits::SteeringTag),
        (0, VectorControlBits::MaskOnly),
    ];
    match alternatives.into_iter().find(|(kept, _)| written & kept == got) {
        Some((_, choice)) => {
            lab.note(format!("Vector Control {written:x} is kept as by {choice:?}"));
            got
        }
        None => written,
    }
}

pub(super) fn c11(lab: &Lab<'_>) -> Outcome {
    for vectors in [0, 2049, 4096, 0x1_0001, 19_923_041, u32::MAX] {
        match lab.subject.device(vectors) {
            Err(NoDevice::Refused(_)) => {}
            Err(NoDevice::NotOffered(why)) => {
                return Err(Stop::NotObservable(format!("{vectors} vectors: {why}")));
            }
            Ok(_) => {
                return Err(Stop::Failed {
                    did: format!("made a device with {vectors} vectors"),
                    expected: "refused".into(),
                    got: "a device".into(),
                });
            }
        }
    }
    for n in [1, 2048] {
        let lab = Lab::new(lab.subject, n);
        let mut bench = lab.ready()?;
        let config = bench.config();
        let size = u16::from_le_bytes([config[2], config[3]]) & 0x7ff;
        bench.expect("table size, N - 1", &size, &(n - 1))?;
        bench.unmask(n - 1);
        bench.fire(n - 1)?;
        bench.expect_message(n - 1)?;
    }
    Ok(())
}

fn bytes_of(dwords: &[u32]) -> Vec<u8> {
    dwords.iter().flat_map(|dword| dword.to_le_bytes()).collect()
}

fn bytes_of64(qwords: &[u64]) -> Vec<u8> {
    qwords.iter().flat_map(|qword| qword.to_le_bytes()).collect()
}

/// All values of the writable bits.
const CONTROLS: [u8; 4] = [0x00, 0x40, 0x80, 0xc0];
