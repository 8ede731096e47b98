//! Cloud boxes that fall silent, judged by the monotonic clock and only by what this leader heard itself: a new one waits
//! as long as a box may be silent before it says of any that it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::{CLOUD_BOX_SILENCE_MAX, Limits, cloud_boxes_heard, cloud_boxes_silent};
use virtflow_types::{ObjectId, Timestamp};

use super::{Leader, propose_all};
use crate::app::App;

/// How often it is looked who is silent.
const TICK: Duration = Duration::from_secs(5);
/// A tick that is later than this was a pause of this process, in which nobody could be heard.
const GAP_MIN: Duration = Duration::from_secs(10);

/// When boxes were last heard.
#[derive(Debug)]
pub(super) struct Heard {
    at: BTreeMap<ObjectId, Instant>,
    /// Of those that were not heard since: they may have been just before.
    others: Instant,
}

impl Heard {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            at: BTreeMap::new(),
            others: began,
        }
    }

    pub(super) fn hear(&mut self, id: ObjectId, now: Instant) {
        self.at.insert(id, now);
    }

    /// Of these, which count as heard, those that are silent; of others nothing is kept.
    fn silent(&mut self, counted: &[ObjectId], now: Instant) -> Vec<ObjectId> {
        self.at.retain(|id, _| counted.binary_search(id).is_ok());
        let heard = |id: &ObjectId| self.at.get(id).copied().unwrap_or(self.others);
        let counted = counted.iter().copied();
        counted
            .filter(|id| now.saturating_duration_since(heard(id)) > CLOUD_BOX_SILENCE_MAX)
            .collect()
    }

    /// Nobody could be heard for so long.
    fn prolong(&mut self, gap: Duration) {
        self.others += gap;
        for at in self.at.values_mut() {
            *at += gap;
        }
    }
}

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    let limits = Limits::default();
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let began = Instant::now();
        let gap = began.duration_since(last).saturating_sub(TICK);
        last = began;
        let image = app.node().image();
        let mut counted = cloud_boxes_heard(&image);
        counted.sort_unstable();
        let silent = {
            let mut heard = leader.boxes();
            if gap > GAP_MIN {
                heard.prolong(gap);
            }
            heard.silent(&counted, began)
        };
        if silent.is_empty() {
            continue;
        }
        let changesets = cloud_boxes_silent(&image, Timestamp::now(), &limits, &silent);
        let outcome = propose_all(&app, changesets).await;
        leader.note_pass(&app, "cloud_boxes_silent", began, &outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_box_is_silent_after_its_time_and_none_is_for_a_new_leader() {
        let [a, b, c] = [1, 2, 3].map(ObjectId::from_u128);
        let began = Instant::now();
        let mut heard = Heard::new(began);
        let max = CLOUD_BOX_SILENCE_MAX;
        heard.hear(a, began + Duration::from_secs(50));
        let counted = [a, b];
        assert_eq!(heard.silent(&counted, began + max), []);
        let later = began + max + Duration::from_secs(1);
        assert_eq!(heard.silent(&counted, later), [b]);
        // The leader stood still meanwhile: nobody could be heard.
        heard.prolong(Duration::from_secs(30));
        assert_eq!(heard.silent(&counted, later), []);
        let much_later = later + Duration::from_secs(90);
        assert_eq!(heard.silent(&counted, much_later), [a, b]);
        // What is not counted any more is forgotten.
        heard.hear(c, much_later);
        heard.silent(&counted, much_later);
        assert!(!heard.at.contains_key(&c));
    }
}
