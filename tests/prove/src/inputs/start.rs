//! The base case: a new engine satisfies the hypothesis.

use crate::any::{self, Property, assume, prove};
use crate::engine::{EXEMPT, Memory, N, case_of, stale_is_counted, tail_is_clean};
use msix_core::prove::Whole;
use msix_core::{BarIndex, Borrowed, Layout, Msix};

pub fn prove_new(Memory { entries, claims, words, .. }: Memory<'_>) {
    let (policy, vector) = (any::policy(), any::vector());
    assume(usize::from(vector.index()) < N);
    let Ok(storage) = Borrowed::new(entries, claims, words) else {
        return;
    };
    let Ok(bar) = BarIndex::new(0) else { return };
    let Ok(layout) = Layout::exclusive_bar(u32::try_from(N).unwrap_or(0), bar) else {
        return;
    };
    let Ok(mut engine) = Msix::with_storage(storage, layout, policy) else {
        return;
    };
    if let Some(exempt) = EXEMPT {
        engine = engine.with_exempt_messages(exempt);
    }
    let case = case_of(&engine, vector);
    let lane = case.lane;
    prove(Property::Sound, case.sound());
    prove(Property::Tail, tail_is_clean(&engine));
    prove(Property::StaleCount, stale_is_counted(&engine) && engine.stale_entries() == 0);
    prove(Property::Masked, lane.masked);
    prove(Property::Pending, !lane.pending);
    prove(Property::Live, !lane.live);
    prove(Property::Claims, lane.claims == 0);
    prove(Property::Entry, lane.entry == [0; 4]);
    prove(Property::Facts, engine.facts_agree());
    let fresh = Whole {
        enabled: false,
        function_masked: false,
        loading: false,
        attached: false,
        bus_master: true,
        intx_told: false,
        orphans: false,
    };
    prove(Property::Whole, case.whole == fresh);
}
