//! Takes what a fuzzer wrote apart into a list of inputs, for whichever machine.

use arbitrary::{Arbitrary, Unstructured};

/// One after the other, until the data ends or does not fit.
pub(crate) fn inputs<'a, I: Arbitrary<'a>>(data: &mut Unstructured<'a>) -> impl Iterator<Item = I> {
    std::iter::from_fn(|| match data.is_empty() {
        true => None,
        false => I::arbitrary(data).ok(),
    })
}
