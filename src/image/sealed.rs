//! Partitions whose blocks dm-verity checks, and their hash partitions.

use super::{Image, Partition};
use crate::discoverable::{Content, Type};
use crate::read::Bytes;
use crate::verity::{Area, RootHash};

/// A hash partition and the data that it is for.
#[derive(Clone, Debug)]
pub struct Sealed<'a> {
    /// The partition with the hashes.
    pub hashes: &'a Partition,
    /// What its superblock says.
    pub area: Area,
    /// The partition with the data, if it is in the image: see [`sealed`].
    pub data: Option<&'a Partition>,
    /// The hash of the top block, if it can be read. A tree over a single block has none.
    pub root: Option<RootHash>,
}

/// All hash partitions of an image.
///
/// The data of each is in the partition whose GUID is the first half of the root hash. If there is none, it is in one
/// that is large enough: of the type that belongs to the type of the hash partition, or else of just the size that the
/// superblock says. Of several, it is the one that is nearest in the table.
pub fn sealed(image: &Image) -> Vec<Sealed<'_>> {
    let areas = image.partitions().iter().filter_map(|hashes| Some((hashes, find(hashes)?)));
    areas.map(|(hashes, area)| Sealed::new(image, hashes, area)).collect()
}

/// The hash area that a partition is, or `None` if it is none.
pub fn find(partition: &Partition) -> Option<Area> {
    if partition.format().is_some() { None } else { Area::find(&partition.bytes()) }
}

impl<'a> Sealed<'a> {
    fn new(image: &'a Image, hashes: &'a Partition, area: Area) -> Self {
        let root = area.root(&hashes.bytes()).ok().flatten();
        let partner = Type::find(hashes.type_guid).map(|kind| kind.with(Content::Data).guid());
        let size = area.data_size();
        let rank = |data: &&Partition| {
            let is_named = root.is_some_and(|root| root.data_guid() == data.guid);
            let is_partner = partner == Some(data.type_guid);
            let has_size = data.bytes().len() == size || data.size == size;
            (is_named || is_partner || has_size).then_some((
                is_named,
                is_partner,
                has_size,
                std::cmp::Reverse(data.number.abs_diff(hashes.number)),
            ))
        };
        let is_possible = |data: &&Partition| data.number != hashes.number && data.bytes().len() >= size;
        let others = image.partitions().iter().filter(is_possible).filter(|other| find(other).is_none());
        let data = others.filter_map(|data| Some((rank(&data)?, data))).max_by_key(|(rank, _)| *rank);
        Self { hashes, area, data: data.map(|(_, data)| data), root }
    }

    /// The root hash by the GUIDs of both partitions, if these are of types whose GUIDs say it.
    pub fn by_guids(&self) -> Option<RootHash> {
        let data = self.data?;
        let kind = Type::find(data.type_guid).filter(|kind| kind.content == Content::Data)?;
        let is_pair = Type::find(self.hashes.type_guid) == Some(kind.with(Content::Verity));
        is_pair.then(|| RootHash::of_guids(data.guid, self.hashes.guid))
    }
}
