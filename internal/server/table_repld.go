package server

// repldCommands are those that Redis does not have, for clients that know more than Redis': see package client.
func repldCommands() []*command {
	return inGroup("repld", []*command{
		{name: "repld.epoch", arity: -1, flags: fNoScript | fLoading | fStale | fFast | fNoMulti, since: "1.0.0", do: cmdEpoch,
			doc: "Returns epoch, role and node names: REPLD.EPOCH [seen]. A node whose epoch is below the one that the client has seen refuses and closes the connection."},
		{name: "repld.once", arity: -4, flags: fWrite | fDenyOOM | fNoScript | fNoMulti, since: "1.0.0", do: cmdOnce,
			doc: "Executes a write at most once: REPLD.ONCE id ttl-ms command [argument ...]. Repeated with the same id within ttl it answers the first result, on a new active too."},
	})
}
