//! From endpoint, mode and stage to the limits that can apply there.

use super::{CompiledEndpoint, CompiledLimit, Limit, LimitId, Stage};
use crate::engine::class::{EndpointId, Mode};
use std::collections::HashMap;

/// Which limits can apply, by endpoint, mode and stage. Lists are shared: hundreds of endpoints meet the same few.
#[derive(Clone, Debug)]
pub(super) struct Index {
    lists: Box<[Box<[LimitId]>]>,
    places: Box<[u32]>,
}

impl Index {
    pub(super) fn new(limits: &[CompiledLimit], endpoints: &[CompiledEndpoint]) -> Index {
        build(limits, endpoints)
    }

    /// The limits of a stage that can apply to requests of this endpoint and mode, fallbacks last.
    pub(super) fn listed(&self, endpoint: EndpointId, mode: Mode, stage: Stage) -> &[LimitId] {
        let place = index_place(endpoint.0 as usize, mode, stage);
        self.places.get(place).map_or(&[], |&list| &self.lists[list as usize])
    }
}

fn index_place(endpoint: usize, mode: Mode, stage: Stage) -> usize {
    (endpoint * Mode::ALL.len() + mode as usize) * Stage::ALL.len() + stage as usize
}

fn build(limits: &[CompiledLimit], endpoints: &[CompiledEndpoint]) -> Index {
    let mut index = vec![Vec::new(); endpoints.len() * Mode::ALL.len() * Stage::ALL.len()];
    let fallbacks_last = [false, true];
    for fallback in fallbacks_last {
        for (id, compiled) in (0..).map(LimitId).zip(limits).filter(|(_, compiled)| compiled.limit.fallback == fallback)
        {
            for place in places(&compiled.limit, endpoints) {
                index[place].push(id);
            }
        }
    }
    let mut known: HashMap<Vec<LimitId>, u32> = HashMap::new();
    let mut lists: Vec<Box<[LimitId]>> = Vec::new();
    let places = index
        .into_iter()
        .map(|list| {
            *known.entry(list).or_insert_with_key(|list| {
                lists.push(list.clone().into());
                u32::try_from(lists.len() - 1).unwrap_or(u32::MAX)
            })
        })
        .collect();
    Index { lists: lists.into(), places }
}

/// Every place of the index where the limit can apply.
fn places(limit: &Limit, endpoints: &[CompiledEndpoint]) -> Vec<usize> {
    (0..)
        .map(EndpointId)
        .zip(endpoints)
        .flat_map(|endpoint| Mode::ALL.map(|mode| (endpoint, mode)))
        .filter(|((id, endpoint), mode)| limit.can_apply(*id, &endpoint.class, *mode))
        .map(|((id, _), mode)| index_place(id.0 as usize, mode, limit.stage))
        .collect()
}
