//! Where map images are written: kernel maps, test maps, native maps.

/// A set of maps by name. Keys and values are the bytes of the structures in `portcullis_bpf::abi`.
pub trait MapSink {
    /// Sets one entry.
    fn update(&mut self, map: &str, key: &[u8], value: &[u8]) -> Result<(), SinkError>;

    /// Deletes one entry of a hash map; an absent key is no error.
    fn delete(&mut self, map: &str, key: &[u8]) -> Result<(), SinkError>;

    /// The value of one entry.
    fn lookup(&mut self, map: &str, key: &[u8]) -> Result<Option<Vec<u8>>, SinkError>;

    /// Every key of a hash map that nobody else writes to.
    fn keys(&mut self, map: &str) -> Result<Vec<Vec<u8>>, SinkError>;

    /// Sets consecutive elements of an array map, from index `first` on and in order. A sink with a batch operation
    /// overrides this.
    fn update_range(
        &mut self,
        map: &str,
        first: u32,
        values: &[u8],
        value_size: usize,
    ) -> Result<(), SinkError> {
        for (index, value) in (first..).zip(values.chunks_exact(value_size)) {
            self.update(map, &index.to_ne_bytes(), value)?;
        }
        Ok(())
    }

    /// Returns when no run of a program that began before the call is still under way.
    fn wait_for_readers(&mut self) -> Result<(), SinkError>;
}

/// A map refused an operation; the half that was being written is not to be activated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("map {map}: {message}")]
pub struct SinkError {
    /// The map.
    pub map: String,
    /// What it said.
    pub message: String,
}
