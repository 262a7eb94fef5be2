//! Who is measured beside whom, in which order, and whether it counts. Pure.
//!
//! A machine drifts: its clock changes, and other guests of its host come and go. So two servers are compared only within a
//! *sitting*, in which they are measured back to back. Baiwan, the reference, sits between two others, so that each of them is
//! right before or right after it; the next round has the opposite order. What disturbs one of a sitting spoils all of it.

use crate::figures::{Figures, others_cores};

/// How many others share a measurement of the reference: one before it, one after it.
const OTHERS: usize = 2;

/// The sittings of a round, each a list of contestants in the order of their turns. `reference` is one of `contestants`, if it
/// takes part.
pub(crate) fn of_round(contestants: &[usize], reference: Option<usize>, round: usize, pairs: bool) -> Vec<Vec<usize>> {
    let others: Vec<usize> = contestants.iter().copied().filter(|index| Some(*index) != reference).collect();
    let mut sittings: Vec<Vec<usize>> = match (pairs, reference) {
        _ if contestants.is_empty() => Vec::new(),
        (true, Some(reference)) if !others.is_empty() => {
            let sitting = |others: &[usize]| [&others[..1], &[reference], &others[1..]].concat();
            others.chunks(OTHERS).map(sitting).collect()
        }
        // Memory does not drift, and without the reference there is nobody to be compared with.
        _ => vec![contestants.to_vec()],
    };
    if !round.is_multiple_of(2) {
        sittings.iter_mut().for_each(|sitting| sitting.reverse());
    }
    sittings
}

/// Whether others took more than `max` cores from anybody in a sitting. Where nothing is known of others, they do not matter.
pub(crate) fn is_disturbed<'a>(figures: impl IntoIterator<Item = &'a Figures>, max: Option<f64>) -> bool {
    let most = figures.into_iter().filter_map(others_cores).fold(0.0, f64::max);
    max.is_some_and(|max| most > max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{CPU_US, OTHERS_CORES};

    #[test]
    fn every_other_is_measured_right_beside_the_reference_and_the_order_alternates() {
        assert_eq!(of_round(&[0, 1, 2, 3], Some(0), 0, true), [vec![1, 0, 2], vec![3, 0]]);
        assert_eq!(of_round(&[0, 1, 2, 3], Some(0), 1, true), [vec![2, 0, 1], vec![0, 3]]);
        assert_eq!(of_round(&[0, 1, 2, 3], Some(0), 2, true), of_round(&[0, 1, 2, 3], Some(0), 0, true));
        assert_eq!(of_round(&[0, 1], Some(1), 0, true), [[0, 1]]);
    }

    #[test]
    fn without_anybody_to_compare_with_all_take_one_turn_each() {
        assert_eq!(of_round(&[1, 2, 3], None, 0, true), [[1, 2, 3]]);
        assert_eq!(of_round(&[0], Some(0), 0, true), [[0]]);
        assert_eq!(of_round(&[0, 1, 2, 3], Some(0), 1, false), [[3, 2, 1, 0]]);
        assert!(of_round(&[], None, 0, true).is_empty());
    }

    #[test]
    fn one_disturbed_turn_spoils_its_sitting() {
        let turn = |others: f64| Figures::from([(CPU_US, 8.0), (OTHERS_CORES, others)]);
        assert!(!is_disturbed(&[turn(0.05), turn(0.0)], Some(0.05)));
        assert!(is_disturbed(&[turn(0.0), turn(0.051), turn(0.01)], Some(0.05)));
        assert!(!is_disturbed(&[turn(1.0)], None));
        assert!(!is_disturbed(&[Figures::from([(CPU_US, 8.0)])], Some(0.05)));
    }
}
