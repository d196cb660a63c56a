#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

fn kid(letter: char) -> KeyId {
    KeyId::parse(&format!("k{}", letter.to_string().repeat(16))).unwrap()
}

fn column(stale: u64, fenced: &[KeyId], open: bool) -> ColumnSituation {
    let (name, fenced) = ("c".to_owned(), fenced.to_vec());
    let takes_replaced = fenced.is_empty();
    ColumnSituation { name, stale, has_fence: true, fenced, other_run: None, open, takes_replaced }
}

#[test]
fn each_situation_has_its_step() {
    let (old, new) = (kid('a'), kid('b'));
    let idle = Situation { columns: vec![column(0, &[], false)], ..Situation::default() };
    let waits = Situation { waiting: vec![new], ..idle.clone() };
    let promoted = |stale, fenced: &[KeyId], open, moved, verified| Situation {
        replaced: vec![old],
        to_fence: vec![old],
        columns: vec![column(stale, fenced, open)],
        moved,
        verified,
        ..Situation::default()
    };
    let plain = Wanted::default();
    let new_key = Wanted { new_key: true, retire: false };
    let retire = Wanted { new_key: false, retire: true };
    // A column whose values do not say which key they are under, so that no database refuses one.
    let legacy = |moved, settled| {
        let column = ColumnSituation { has_fence: false, ..column(0, &[], true) };
        Situation { columns: vec![column], settled, ..promoted(0, &[], true, moved, false) }
    };
    for (number, (situation, wanted, step)) in [
        (idle.clone(), plain, Step::Nothing),
        (idle.clone(), retire, Step::Nothing),
        (idle.clone(), new_key, Step::Add),
        (waits.clone(), plain, Step::Promote(new)),
        // Asked for a new key, the one that waits is the new key.
        (waits.clone(), new_key, Step::Promote(new)),
        // Killed after the promotion, in the run, after the run, after the fence.
        (promoted(5, &[], false, false, false), plain, Step::Move),
        (promoted(5, &[], true, false, false), plain, Step::Move),
        (promoted(0, &[], true, false, false), plain, Step::Move),
        (promoted(0, &[], true, true, false), plain, Step::Fence),
        (promoted(0, &[], false, false, false), plain, Step::Fence),
        (promoted(0, &[old], true, false, false), plain, Step::Move),
        (promoted(0, &[old], true, true, false), plain, Step::Verify),
        (promoted(0, &[old], false, true, false), plain, Step::Verify),
        (promoted(0, &[old], false, true, true), plain, Step::Nothing),
        (promoted(0, &[old], false, true, true), retire, Step::Disable(old)),
        (promoted(0, &[old], false, false, false), plain, Step::Nothing),
        (promoted(0, &[old], false, false, false), retire, Step::Disable(old)),
        // A value came back after the end.
        (promoted(1, &[old], false, false, false), plain, Step::Move),
        // Values were written late, under a key that was replaced.
        (Situation { settled: true, ..promoted(3, &[], true, false, false) }, plain, Step::Move),
        (Situation { settled: true, ..promoted(0, &[], true, true, false) }, plain, Step::Fence),
        (legacy(false, false), plain, Step::Move),
        (legacy(true, false), plain, Step::Fence),
        (legacy(true, true), plain, Step::Verify),
        // What is open is finished before anything new.
        (promoted(5, &[], true, false, false), new_key, Step::Move),
        (promoted(0, &[], false, true, true), new_key, Step::Fence),
        (Situation { waiting: vec![new], ..promoted(5, &[], true, false, false) }, plain, Step::Move),
        (Situation { waiting: vec![new], ..promoted(0, &[], true, true, false) }, plain, Step::Fence),
        (Situation { waiting: vec![new], ..promoted(0, &[old], true, true, false) }, plain, Step::Verify),
        // Values that are stale without a run are moved after the promotion.
        (Situation { waiting: vec![new], ..promoted(5, &[], false, false, false) }, plain, Step::Promote(new)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(next_step(&situation, wanted).unwrap(), step, "row {number}: {situation:?}, {wanted:?}");
    }
}

#[test]
fn what_only_an_operator_can_decide_is_refused() {
    let (old, new) = (kid('a'), kid('b'));
    let waits = Situation { waiting: vec![new], columns: vec![column(0, &[], false)], ..Situation::default() };
    let refused = |situation: &Situation, words: &str| {
        let error = next_step(situation, Wanted::default()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(words), "{error}");
    };
    refused(&Situation { waiting: vec![old, new], ..waits.clone() }, "several keys");
    refused(&Situation { columns: vec![column(0, &[new], false)], ..waits.clone() }, "fenced against");
    let other_run = Some("migrate to vs1".to_owned());
    refused(
        &Situation { columns: vec![ColumnSituation { other_run, ..column(0, &[], false) }], ..waits },
        "migrate to vs1",
    );
}

/// From wherever it begins, a rotation ends, and each of its steps leads on.
#[test]
fn every_way_ends() {
    let (old, new) = (kid('a'), kid('b'));
    for bits in 0..128_u32 {
        let is = |bit: u32| bits & 1 << bit != 0;
        let fenced = if is(3) && is(1) { vec![old] } else { Vec::new() };
        let mut situation = Situation {
            waiting: if is(0) { vec![new] } else { Vec::new() },
            replaced: if is(1) { vec![old] } else { Vec::new() },
            to_fence: if is(1) { vec![old] } else { Vec::new() },
            columns: vec![column(u64::from(is(2)), &fenced, is(4))],
            ..Situation::default()
        };
        let wanted = Wanted { new_key: is(5), retire: is(6) };
        let mut steps = Vec::new();
        loop {
            let step = next_step(&situation, wanted).unwrap();
            if step == Step::Nothing || step == Step::Add {
                break;
            }
            steps.push(step);
            assert!(steps.len() < 12, "{steps:?}");
            situation = situation.after(step, kid('c'));
        }
        assert!(situation.waiting.is_empty() && situation.columns[0].stale == 0 && !situation.columns[0].open);
        assert!(!wanted.retire || situation.replaced.is_empty(), "{steps:?}");
    }
}
