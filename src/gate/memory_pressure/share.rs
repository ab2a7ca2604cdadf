//! How a budget is shared between queues. Pure.

/// The largest share with which all queues together keep the budget, if each has at most that.
/// `usize::MAX` if they keep it as they are. Sorts the queues.
pub(super) fn share(queues: &mut [usize], budget: usize) -> usize {
    queues.sort_unstable();
    let mut left = budget;
    for (at, queue) in queues.iter().enumerate() {
        let share = left / (queues.len() - at);
        if *queue > share {
            return share;
        }
        left -= queue;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::share;

    #[test]
    fn only_the_fullest_queues_are_above_the_share() {
        for (queues, budget, expected) in [
            (&[][..], 10, usize::MAX),
            (&[10], 10, usize::MAX),
            (&[11], 10, 10),
            (&[1, 1, 98], 50, 48),
            (&[30, 30, 30], 60, 20),
            (&[5, 40, 50], 50, 22),
            (&[1, 1], 0, 0),
        ] {
            assert_eq!(share(&mut queues.to_vec(), budget), expected, "{queues:?}");
        }
    }

    proptest! {
        #[test]
        fn a_share_keeps_the_budget_and_wastes_little_of_it(
            mut queues in prop::collection::vec(0_usize..10_000, 0..50),
            budget in 0_usize..200_000,
        ) {
            let share = share(&mut queues, budget);
            let sum: usize = queues.iter().map(|queue| (*queue).min(share)).sum();
            prop_assert!(sum <= budget);
            prop_assert!(share == usize::MAX || sum + queues.len() > budget);
        }
    }
}
