package main

// row is one fault of the catalogue: what is done to the system and what it has to do then. The words of the answers: CUT drop an unacked tail
// only; REP repair from a peer; REF refuse to start or join, with the reason; SD step down; FAIL clean exit, then recovery; RES resume without
// duplicates; DEG keep serving, alarm.
type row struct {
	ID, Fault, Required string
}

// catalogue lists all rows in their order. Under any of them an acked write is never lost, two actives never commit, copies never diverge
// in silence, nothing is truncated in silence, and nothing hangs without an error or an alarm.
var catalogue = []row{
	{"P1", "kill -9 at each step (before/after write, fsync, send, ack, apply, flush, manifest)", "acked present; CUT"},
	{"P2", "kill -9 during recovery, repeatedly", "recovery idempotent"},
	{"P3", "SIGSTOP active past its lease, SIGCONT", "standbys reject old epoch; SD before any ack or linearizable read"},
	{"P4", "Long GC or scheduler stall", "as P3"},
	{"P5", "OOM kill", "as P1"},
	{"P6", "Crash loop under supervisor", "backoff; no epoch burn per restart; no file growth"},
	{"P7", "File descriptor or thread limit reached", "refuse connections, keep replication"},
	{"P8", "Panic in one connection handler", "that connection dies only"},
	{"D1", "Torn write at each byte of last frame", "CUT exactly there"},
	{"D2", "All or some unsynced writes lost, any order", "acked present"},
	{"D3", "Short write", "retry at offset or FAIL; never a hole"},
	{"D4", "fsync EIO once, pages dropped", "FAIL, no retry, no ack"},
	{"D5", "ENOSPC in WAL", "stop accepting with error; SD; reserved space lets it shut down"},
	{"D6", "ENOSPC or EIO in Pebble flush", "SD within bound, not N5"},
	{"D7", "MANIFEST write error", "FAIL through our Logger"},
	{"D8", "Bit rot mid-log (valid frames after it)", "REP or REF; never CUT"},
	{"D9", "Bit rot in last acked frame", "ask peers before CUT; REF if alone"},
	{"D10", "Bit rot in SST", "read error, never wrong value; REP by re-seed"},
	{"D11", "Bit rot in token or epoch file", "two checksummed copies; REF if both bad"},
	{"D12", "Bit rot in segment header", "REP or REF"},
	{"D13", "Misdirected write (frame at other offset or file)", "LSN, segment id and hash chain catch it"},
	{"D14", "Lost write reported as done", "chain gap; REP"},
	{"D15", "Stale read (old block)", "chain break; REF"},
	{"D16", "Slow disk (seconds)", "timeouts; DEG or SD; no unbounded queue"},
	{"D17", "Stuck fsync (minutes)", "watchdog SD; late completion not acked"},
	{"D18", "Read-only remount / fs abort", "FAIL"},
	{"D19", "Missing segment in the middle", "REF or REP"},
	{"D20", "Two segments swapped, or from another node", "REF (ids in header)"},
	{"D21", "Directory entry not synced", "file exists after cut if acked"},
	{"D22", "Rename not durable (token, snapshot install)", "old or new, never mixed"},
	{"D23", "Data directory emptied", "join as new incarnation; never promotable unsynced"},
	{"D24", "Preallocated zero tail", "not a frame, no error"},
	{"D25", "Bad disk only while scrubbing", "alarm and REP before needed"},
	{"W1", "Symmetric partition", "only token holder acks; sync mode blocks"},
	{"W2", "One-way partition, each direction", "as W1; half-dead session closed"},
	{"W3", "Node sees token store but not peers, and reverse", "no takeover by a lagging node without force"},
	{"W4", "Flapping link", "backoff; RES; no promote storm"},
	{"W5", "Loss 1–20 %", "RES"},
	{"W6", "Delay, jitter, bandwidth cut", "lag alarm, bounded memory"},
	{"W7", "Slow drip (1 B/s)", "progress deadline closes it"},
	{"W8", "Half-open connection", "detected in keepalive bound (5 s [run])"},
	{"W9", "Duplicate connection of one standby", "newest wins; LSN applied once"},
	{"W10", "Peer of wrong cluster", "REF at handshake"},
	{"W11", "Corrupted bytes without TLS", "frame checksum; session closed; RES"},
	{"W12", "Huge or negative frame length", "limit before allocation; close"},
	{"W13", "yamux window stall, reader stuck", "write deadline closes session"},
	{"W14", "Write error but bytes delivered", "RES by LSN"},
	{"W15", "Token store down", "no new active; current one stops by its lease"},
	{"C1", "Wall clock ± days", "no effect on safety"},
	{"C2", "Drift between nodes", "lease uses own monotonic time with margin"},
	{"C3", "VM paused (monotonic advances or not)", "as P3; boot-time clock read"},
	{"H1", "Two nodes with same id", "REF second (incarnation nonce)"},
	{"H2", "Node restored from old backup", "its LSN is below what it acked: REF as voter, re-seed"},
	{"H3", "Wrong data directory", "REF (cluster/node id mismatch)"},
	{"H4", "Config typo, unknown key", "REF, name the key"},
	{"H5", "Version skew, newer format", "REF or agreed old format; never reinterpret"},
	{"H6", "Promote lagging node", "REF with LSN gap; `--force` prints loss"},
	{"H7", "Promote twice at once", "one epoch wins"},
	{"H8", "Promote on both sides of a partition", "only with token majority"},
	{"H9", "Old active returns with extra suffix", "divergence shown, suffix saved aside, re-seed"},
	{"H10", "Two daemons on one directory", "lock REF"},
	{"R1", "Malformed RESP", "protocol error, close"},
	{"R2", "`*4294967295`, giant bulk, deep nesting", "no allocation beyond bytes received"},
	{"R3", "Slowloris", "idle and partial-request deadline"},
	{"R4", "Pipelining flood without reading", "output limit, close"},
	{"R5", "Connection flood", "cap; admin socket stays usable"},
	{"R6", "Retry after timeout", "same result by request id"},
}

// notApplicable says of rows why they do not apply. It is empty as long as all of them do.
var notApplicable = map[string]string{}
