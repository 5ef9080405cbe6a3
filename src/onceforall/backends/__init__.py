"""The settings of each runtime, once: profiles, cards, proofs, `ofa measure` and the agent on other machines load with them."""
