//! In which order documents are applied: what is named and not there yet comes before what names it.

/// The order of `count` things, as they stand where nothing says otherwise; `needs` are those that must come before
/// one. The error is a way that leads back to its beginning.
pub(super) fn order(
    count: usize,
    needs: impl Fn(usize) -> Vec<usize>,
) -> Result<Vec<usize>, Vec<usize>> {
    let mut marks = vec![Mark::New; count];
    let mut order = Vec::with_capacity(count);
    for first in 0..count {
        // A way of its own instead of a call in a call: a file may chain thousands.
        let mut way = vec![(first, None::<std::vec::IntoIter<usize>>)];
        while let Some((at, rest)) = way.last_mut() {
            let at = *at;
            let rest = match rest {
                Some(rest) => rest,
                None if marks[at] == Mark::Done => {
                    way.pop();
                    continue;
                }
                None => {
                    marks[at] = Mark::OnTheWay;
                    rest.insert(needs(at).into_iter())
                }
            };
            match rest.next() {
                None => {
                    marks[at] = Mark::Done;
                    order.push(at);
                    way.pop();
                }
                Some(next) if marks[next] == Mark::OnTheWay => {
                    let on_it = way.iter().map(|(at, _)| *at);
                    let mut cycle: Vec<usize> = on_it.skip_while(|at| *at != next).collect();
                    cycle.push(next);
                    return Err(cycle);
                }
                Some(next) => way.push((next, None)),
            }
        }
    }
    Ok(order)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    OnTheWay,
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(needs: &[&[usize]]) -> Result<Vec<usize>, Vec<usize>> {
        order(needs.len(), |at| needs[at].to_vec())
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays() {
        assert_eq!(of(&[&[], &[], &[]]), Ok(vec![0, 1, 2]));
        assert_eq!(of(&[&[2], &[], &[1]]), Ok(vec![1, 2, 0]));
        assert_eq!(of(&[&[1, 2], &[3], &[3], &[]]), Ok(vec![3, 1, 2, 0]));
    }

    #[test]
    fn a_cycle_is_named() {
        assert_eq!(of(&[&[1], &[2], &[1]]), Err(vec![1, 2, 1]));
        assert_eq!(of(&[&[0]]), Err(vec![0, 0]));
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let count = 100_000;
        let order = order(count, |at| {
            (at + 1 < count).then_some(at + 1).into_iter().collect()
        });
        assert_eq!(order.unwrap()[0], count - 1);
    }
}
