//! Policy meaning: model, matching, decision; pure
