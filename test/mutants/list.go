package mutants

// Mutant is one mistake.
type Mutant struct {
	Name     string
	Rule     string // of DESIGN, or row of FAULTS
	Critical bool
	File     string // in the repository
	Find     string // exactly once in File
	Replace  string
	Layers   []Layer // who should catch it, the nearest first
	Hangs    bool    // its tests do not end: that is how it is caught
}

// Layer is some tests.
type Layer struct {
	Name    string
	Package string // ./…
	Run     string // of go test; "" = all

	hangs bool
}

// Layers.
var (
	logTests       = Layer{Name: "wal", Package: "./wal"}
	failoverTests  = Layer{Name: "failover", Package: "./failover", Run: "Slots|Fence|Decide|Advance|Token|FileStore"}
	replicateTests = Layer{Name: "replicate", Package: "./replicate"}
	snapshotTests  = Layer{Name: "snapshot", Package: "./snapshot"}
	stateTests     = Layer{Name: "kv", Package: "./internal/kv"}
	nodeTests      = Layer{Name: "node", Package: "./internal/node"}
	crashTests     = Layer{Name: "crashlife", Package: "./test/crashlife"}
	coreTests      = Layer{Name: "coresim", Package: "./test/coresim", Run: "TestSeeds|TestCareless"}
	simTests       = Layer{Name: "sim", Package: "./test/sim", Run: "TestSeeds"}
)

func layers(l ...Layer) []Layer { return l }

// List is all mistakes.
func List() []Mutant {
	var all []Mutant
	for _, part := range [][]Mutant{logMutants, failoverMutants, replicateMutants, nodeMutants, stateMutants} {
		all = append(all, part...)
	}
	return all
}

var logMutants = []Mutant{
	{Name: "wal-no-fsync", Rule: "R1", Critical: true, File: "wal/append.go",
		Find:    "err := l.app.file.SyncData()",
		Replace: "var err error", Layers: layers(logTests, crashTests, simTests)},
	{Name: "wal-failed-fsync-goes-on", Hangs: true, Rule: "R10", Critical: true, File: "wal/append.go",
		Find:    `return Position{}, l.fail(fmt.Errorf("sync segment %s: %w", l.app.seg.path, err))`,
		Replace: "l.stats.syncs.Add(0)", Layers: layers(logTests, simTests)},
	{Name: "wal-late-fsync-acked", Rule: "R10", Critical: true, File: "wal/append.go",
		Find:    "return Position{}, l.mu.failed // by Fail",
		Replace: "l.app.unsynced = 0 // by Fail", Layers: layers(logTests, nodeTests)},
	{Name: "wal-rotate-unsynced", Rule: "R1", Critical: true, File: "wal/append.go",
		Find:    "	if _, err := l.sync(); err != nil {\n		return err\n	}\n	seq :=",
		Replace: "	l.app.unsynced = 0\n	seq :=", Layers: layers(logTests, crashTests)},
	{Name: "wal-segment-name-unsynced", Rule: "D21", Critical: true, File: "wal/prepare.go",
		Find:    "return fmt.Errorf(\"rename %s: %w\", from, err)\n	}\n	return d.sync()",
		Replace: "return fmt.Errorf(\"rename %s: %w\", from, err)\n	}\n	return nil", Layers: layers(logTests, crashTests)},
	{Name: "wal-gap-accepted", Rule: "R7", Critical: true, File: "wal/append.go",
		Find:    "case f.First != end.LSN+1:",
		Replace: "case f.First < end.LSN+1:", Layers: layers(logTests)},
	{Name: "wal-other-history-accepted", Rule: "D13", Critical: true, File: "wal/append.go",
		Find:    "case f.Prev != end.Hash:",
		Replace: "case false:", Layers: layers(logTests)},
	{Name: "wal-older-epoch-accepted", Rule: "R4", Critical: true, File: "wal/append.go",
		Find:    "case f.Epoch < end.Epoch:",
		Replace: "case false:", Layers: layers(logTests)},
	{Name: "wal-chain-not-chained", Rule: "D13", Critical: true, File: "wal/header.go",
		Find:    "d.ResetWithSeed(uint64(prev))",
		Replace: "d.ResetWithSeed(0)", Layers: layers(logTests)},
	{Name: "wal-hash-unchecked-on-disk", Rule: "D8", Critical: true, File: "wal/walk.go",
		Find:    "s.valid = hash == h.Hash",
		Replace: "s.valid = true", Layers: layers(logTests)},
	{Name: "wal-hash-unchecked-on-wire", Rule: "W11", Critical: true, File: "wal/frame.go",
		Find:    "got := chainHash(h.Prev, b, b[HeaderSize:]); got != h.Hash {",
		Replace: "got := chainHash(h.Prev, b, b[HeaderSize:]); got == 0 {", Layers: layers(logTests, replicateTests)},
	{Name: "wal-cut-before-sound-frame", Rule: "R8", Critical: true, File: "wal/decide.go",
		Find:    "if t.Later != nil && !t.Later.SameWrite {",
		Replace: "if t.Later != nil && t.Later.First == 0 {", Layers: layers(logTests)},
	{Name: "wal-cut-below-known-durable", Rule: "R8", Critical: true, File: "wal/decide.go",
		Find:    "if t.KnownDurable > t.Good.LSN {",
		Replace: "if t.KnownDurable > t.Good.LSN+1 {", Layers: layers(logTests)},
	{Name: "wal-cut-below-clean-mark", Rule: "R8", Critical: true, File: "wal/decide.go",
		Find:    "t.Mark.LSN >= t.Good.LSN && *t.Mark != t.Good {",
		Replace: "t.Mark.LSN < t.Good.LSN && *t.Mark != t.Good {", Layers: layers(logTests)},
	{Name: "wal-cut-without-doubt", Rule: "R8", Critical: true, File: "wal/decide.go",
		Find:    "Doubt: !t.NeverWhole",
		Replace: "Doubt: false", Layers: layers(logTests)},
	{Name: "wal-clean-mark-stays", Rule: "R8", Critical: false, File: "wal/recover.go",
		Find:    "	return r.dir.removeNote(noteClean)",
		Replace: "	return nil", Layers: layers(logTests, crashTests)},
	{Name: "wal-cut-without-intent", Rule: "R9", Critical: true, File: "wal/truncate.go",
		Find:    "	if err := l.dir.writeNote(noteIntent, note); err != nil {\n		return err\n	}\n	used :=",
		Replace: "	_ = note\n	used :=", Layers: layers(logTests, crashTests)},
	{Name: "wal-suffix-not-saved", Rule: "R9", Critical: true, File: "wal/truncate.go",
		Find:    "	d, err := l.save(to, o)\n	if err != nil {\n		return Diverged{}, err\n	}\n	if err := l.cut",
		Replace: "	d, err := Diverged{From: to, To: l.End()}, error(nil)\n	if err != nil {\n		return Diverged{}, err\n	}\n	if err := l.cut", Layers: layers(logTests)},
	{Name: "wal-suffix-unsynced", Rule: "R9", Critical: false, File: "wal/diverged.go",
		Find:    "err = out.Sync()",
		Replace: "err = nil", Layers: layers(logTests, crashTests)},
	{Name: "wal-suffix-name-unsynced", Rule: "R9", Critical: false, File: "wal/diverged.go",
		Find:    "return d, syncDir(fs, o.Dir)",
		Replace: "return d, nil", Layers: layers(logTests, crashTests)},
	{Name: "wal-cut-keeps-one-in-memory", Rule: "R9", Critical: true, File: "wal/truncate.go",
		Find:    "l.mu.tail.cut(to.LSN)",
		Replace: "l.mu.tail.cut(to.LSN + 1)", Layers: layers(logTests)},
	{Name: "wal-short-write-trusted", Rule: "D3", Critical: true, File: "wal/dir.go",
		Find:    "if err == nil && n != len(b) {",
		Replace: "if err == nil && n > len(b) {", Layers: layers(logTests)},
	{Name: "wal-trim-one-too-many", Rule: "D19", Critical: true, File: "wal/trim.go",
		Find:    "s.last.LSN > keepAfter ||",
		Replace: "s.last.LSN > keepAfter+1 ||", Layers: layers(logTests)},
	{Name: "wal-durable-before-fsync", Rule: "R1", Critical: true, File: "wal/writer_run.go",
		Find:    "	pos, err := w.l.commit(f)",
		Replace: "	w.o.OnDurable(f.End())\n	pos, err := w.l.commit(f)", Layers: layers(logTests, crashTests, simTests)},
	{Name: "wal-readers-not-told-of-cut", Rule: "R7", Critical: true, File: "wal/truncate.go",
		Find:    "if r.pos.LSN > to.LSN && r.err == nil {",
		Replace: "if r.pos.LSN > to.LSN+1 && r.err == nil {", Layers: layers(logTests)},
}

var failoverMutants = []Mutant{
	{Name: "slots-no-fsync", Rule: "R3", Critical: true, File: "failover/slotcodec.go",
		Find:    "if err := f.Sync(); err != nil {",
		Replace: "if err := error(nil); err != nil {", Layers: layers(failoverTests, coreTests)},
	{Name: "slots-one-slot", Rule: "R3", Critical: true, File: "failover/slots.go",
		Find:    "for i := range 2 {",
		Replace: "for i := range 1 {", Layers: layers(failoverTests, coreTests)},
	{Name: "slots-name-unsynced", Rule: "D22", Critical: true, File: "failover/slots.go",
		Find:    "return syncDir(o.FS, o.Dir)",
		Replace: "return nil", Layers: layers(failoverTests, crashTests)},
	{Name: "slots-older-slot-wins", Rule: "D11", Critical: false, File: "failover/slots.go",
		Find:    "case s[0].Generation > s[1].Generation:\n		return s[0], 1",
		Replace: "case s[0].Generation > s[1].Generation:\n		return s[1], 0", Layers: layers(failoverTests, coreTests)},
	{Name: "fence-not-persisted", Rule: "R3", Critical: true, File: "failover/fence.go",
		Find:    "stored, err := f.mu.slots.Write(next)",
		Replace: "stored, err := next, error(nil)", Layers: layers(failoverTests, coreTests)},
	{Name: "fence-one-epoch-back", Rule: "R3", Critical: true, File: "failover/fence.go",
		Find:    "if t.Epoch < cur.Epoch() {",
		Replace: "if t.Epoch+1 < cur.Epoch() {", Layers: layers(failoverTests, coreTests)},
	{Name: "fence-epoch-granted-twice", Rule: "R2", Critical: true, File: "failover/fence.go",
		Find:    "if t.Holder != cur.Holder() {",
		Replace: "if t.Holder == \"\" {", Layers: layers(failoverTests, coreTests)},
	{Name: "decide-non-voters-count", Rule: "R11", Critical: true, File: "failover/decide.go",
		Find:    "voter := a.Voter || q.countNonVoters",
		Replace: "voter := a.Node != \"\" || q.countNonVoters", Layers: layers(failoverTests, coreTests)},
	{Name: "decide-blank-counts", Rule: "R11", Critical: true, File: "failover/decide.go",
		Find:    "(!a.Blank || q.countBlank)",
		Replace: "(!a.Blank || a.Node != \"\")", Layers: layers(failoverTests)},
	{Name: "decide-quorum-one-less", Rule: "R5", Critical: true, File: "failover/rule.go",
		Find:    "v-k+1, 0",
		Replace: "v-k, 0", Layers: layers(failoverTests, coreTests)},
	{Name: "decide-only-last-tenure", Rule: "R6", Critical: true, File: "failover/rule.go",
		Find:    "|| q.newestTenureOnly)",
		Replace: "|| !q.newestTenureOnly)", Layers: layers(failoverTests, coreTests)},
	{Name: "decide-own-log-is-best", Rule: "R5", Critical: true, File: "failover/rule.go",
		Find:    "(source == \"\" || a.Position.Ahead(best))",
		Replace: "source == \"\"", Layers: layers(failoverTests, coreTests)},
	{Name: "decide-half-is-a-majority", Rule: "R2", Critical: true, File: "failover/rule.go",
		Find:    "quorum = max(quorum, v/2+1)",
		Replace: "quorum = max(quorum, (v+1)/2)", Layers: layers(failoverTests)},
	{Name: "decide-known-commit-ignored", Rule: "R5", Critical: false, File: "failover/rule.go",
		Find:    "if a.Committed > target.LSN && !q.candidateSource {",
		Replace: "if a.Committed > target.LSN+1 && !q.candidateSource {", Layers: layers(failoverTests)},
	{Name: "token-old-revision-wins", Rule: "R2", Critical: true, File: "failover/token.go",
		Find:    "case cur.Rev != rev:",
		Replace: "case cur.Rev > rev+1:", Layers: layers(failoverTests)},
	{Name: "token-second-holder", Rule: "R2", Critical: true, File: "failover/token.go",
		Find:    "case next.Epoch == cur.Epoch && next.Holder != cur.Holder:",
		Replace: "case next.Epoch == cur.Epoch && next.Holder == \"\":", Layers: layers(failoverTests, coreTests)},
}

var replicateMutants = []Mutant{
	{Name: "commit-any-standby-is-enough", Rule: "R1", Critical: true, File: "replicate/commit.go",
		Find:    "return lsns[len(lsns)-set.K]",
		Replace: "return lsns[len(lsns)-1]", Layers: layers(replicateTests, coreTests)},
	{Name: "commit-before-own-fsync", Rule: "R1", Critical: true, File: "replicate/commit.go",
		Find:    "c := min(r.durable, r.ackedByAll(r.set, r.set.Version))",
		Replace: "c := r.ackedByAll(r.set, r.set.Version)", Layers: layers(replicateTests, coreTests)},
	{Name: "commit-earlier-epochs-by-count", Rule: "R5", Critical: true, File: "replicate/commit.go",
		Find:    "if c >= r.first && c > r.committed {",
		Replace: "if c > r.committed {", Layers: layers(replicateTests, coreTests)},
	{Name: "commit-settles-uncovered", Rule: "R6", Critical: true, File: "replicate/commit.go",
		Find:    "	if !r.Covered() {\n",
		Replace: "	if r.next.K < 0 {\n", Layers: layers(replicateTests, coreTests)},
	{Name: "commit-loosened-before-recorded", Rule: "R6", Critical: true, File: "replicate/commit.go",
		Find:    "	c := min(r.durable, r.ackedByAll(r.set, r.set.Version))\n	if r.next != nil {\n		c = min(c,",
		Replace: "	c := min(r.durable, r.ackedByAll(r.set, r.set.Version))\n	if r.next != nil {\n		c = max(c,", Layers: layers(replicateTests, coreTests)},
	{Name: "commit-remembers-lost-disk", Rule: "R11", Critical: true, File: "replicate/commit.go",
		Find:    "{ delete(r.acks, standby) }",
		Replace: "{ _ = r.acks[standby] }", Layers: layers(replicateTests)},
	{Name: "follow-epoch-unchecked", Rule: "R4", Critical: true, File: "replicate/receiver.go",
		Find:    "	if e == f.epoch {\n",
		Replace: "	if e >= f.epoch {\n", Layers: layers(replicateTests, nodeTests)},
	{Name: "follow-acks-what-is-written", Rule: "R1", Critical: true, File: "replicate/follow.go",
		Find:    "	if err := f.ack(durable.LSN); err != nil {",
		Replace: "	if err := f.ack(f.o.Log.End().LSN + 1); err != nil {", Layers: layers(replicateTests, nodeTests)},
	{Name: "follow-applies-uncommitted", Rule: "R7", Critical: true, File: "replicate/follow.go",
		Find:    "f.commit(committed, at, durable.LSN)",
		Replace: "f.commit(max(committed, durable.LSN), at, durable.LSN)", Layers: layers(replicateTests, nodeTests, simTests)},
	{Name: "follow-votes-too-early", Rule: "R11", Critical: true, File: "replicate/follow.go",
		Find:    "durable < f.target ||",
		Replace: "durable+1 < f.target ||", Layers: layers(replicateTests)},
	{Name: "follow-undoes-effects", Rule: "R15", Critical: true, File: "replicate/rejoin.go",
		Find:    "if applied.LSN > to.LSN {",
		Replace: "if applied.LSN > to.LSN+1 {", Layers: layers(replicateTests)},
	{Name: "follow-votes-while-seeded", Rule: "R11", Critical: true, File: "replicate/rejoin.go",
		Find:    "if err := f.revoke(max(f.target, m.Position.LSN), \"its state is replaced by a snapshot\"); err != nil {",
		Replace: "if err := error(nil); err != nil {", Layers: layers(replicateTests)},
	{Name: "send-after-newer-epoch", Hangs: true, Rule: "R4", Critical: true, File: "replicate/served.go",
		Find:    "e != st.epoch {",
		Replace: "e < st.epoch {", Layers: layers(replicateTests)},
	{Name: "send-to-who-knows-better", Rule: "R15", Critical: false, File: "replicate/served.go",
		Find:    "case h.Epoch > st.epoch:",
		Replace: "case h.Epoch > st.epoch+1:", Layers: layers(replicateTests)},
	{Name: "snapshot-hash-unchecked", Rule: "W11", Critical: true, File: "snapshot/receiver.go",
		Find:    "|| found != w.want.Hash)",
		Replace: "|| found == 0)", Layers: layers(snapshotTests)},
}

var nodeMutants = []Mutant{
	{Name: "answer-one-too-early", Rule: "R1", Critical: true, File: "internal/node/sequencer.go",
		Find:    "s.mu.waiting[n].lsn <= lsn {",
		Replace: "s.mu.waiting[n].lsn <= lsn+1 {", Layers: layers(nodeTests, simTests)},
	{Name: "answer-before-commit", Rule: "R1", Critical: true, File: "internal/node/sequencer.go",
		Find:    "(last > s.applied() || len(s.mu.waiting) > 0):",
		Replace: "last > s.applied()+1<<40:", Layers: layers(nodeTests, simTests)},
	{Name: "unknown-is-told-refused", Rule: "R13", Critical: true, File: "internal/node/sequencer.go",
		Find:    "		l.done(l.lsn, server.ErrUnknown)",
		Replace: "		l.done(l.lsn, refusal)", Layers: layers(nodeTests)},
	{Name: "late-is-told-done", Rule: "R13", Critical: true, File: "internal/node/sequencer.go",
		Find:    "late[i].done(late[i].lsn, server.ErrUnknown)",
		Replace: "late[i].done(late[i].lsn, nil)", Layers: layers(nodeTests, simTests)},
	{Name: "part-of-a-batch-is-told-refused", Rule: "R13", Critical: true, File: "internal/node/sequencer.go",
		Find:    "		err = server.ErrUnknown // a part",
		Replace: "		_ = b.wrote // a part", Layers: layers(nodeTests)},
	{Name: "apply-before-commit", Rule: "R7", Critical: true, File: "internal/node/applier.go",
		Find:    "f.Last() > limit {",
		Replace: "f.First > limit+1 {", Layers: layers(nodeTests, simTests)},
	{Name: "lagged-node-is-hot", Rule: "R7", Critical: false, File: "internal/node/applier.go",
		Find:    "if a.delay > 0 && !a.rush.Load() {",
		Replace: "if a.delay > time.Hour && !a.rush.Load() {", Layers: layers(nodeTests)},
	{Name: "all-acks-count", Rule: "R11", Critical: true, File: "internal/node/group.go",
		Find:    "	if a.Counts {",
		Replace: "	if a.Counts || a.Durable > 0 {", Layers: layers(nodeTests, simTests)},
	{Name: "lost-disk-is-not-forgotten", Rule: "R11", Critical: true, File: "internal/node/group.go",
		Find:    "{ c.Forget(standby) }",
		Replace: "{ _ = c }", Layers: layers(nodeTests, simTests)},
	{Name: "commit-after-newer-epoch", Rule: "R3", Critical: true, File: "internal/node/epoch.go",
		Find:    "	g.commit.stop()\n	g.shut(server.ReadOnly(e, holder))",
		Replace: "	g.shut(server.ReadOnly(e, holder))", Layers: layers(nodeTests, simTests)},
	{Name: "clients-before-epoch-start", Rule: "R5", Critical: true, File: "internal/node/epoch.go",
		Find:    "if g.commit.lsn() >= last && ours() {",
		Replace: "if g.commit.lsn()+1 >= last && ours() {", Layers: layers(nodeTests, simTests)},
	{Name: "doubtful-log-votes", Rule: "R8", Critical: true, File: "internal/node/openstate.go",
		Find:    "return g.fence.SetVoter(false)",
		Replace: "return nil", Layers: layers(nodeTests, crashTests)},
	{Name: "state-off-the-log-starts", Rule: "H2", Critical: true, File: "internal/node/openstate.go",
		Find:    "err == nil && have == at {",
		Replace: "err == nil && have.LSN <= at.LSN {", Layers: layers(nodeTests, crashTests)},
	{Name: "rewind-forgotten", Rule: "R7", Critical: true, File: "internal/node/seed.go",
		Find:    "	g.commit.rewind(to.LSN)\n",
		Replace: "", Layers: layers(nodeTests, simTests)},
}

var stateMutants = []Mutant{
	{Name: "state-other-history-applied", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "case f.Prev != at.Hash || f.Epoch < at.Epoch:",
		Replace: "case false:", Layers: layers(stateTests)},
	{Name: "state-gap-applied", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "case f.First != at.LSN+1:",
		Replace: "case f.First < at.LSN+1:", Layers: layers(stateTests)},
	{Name: "state-position-apart-from-effects", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "s.put(g, positionRow, appendPosition(nil, g.end))",
		Replace: "defer func() { _ = s.db.Set([]byte(positionRow), appendPosition(nil, g.end), pebble.NoSync) }()", Layers: layers(stateTests, crashTests)},
	{Name: "state-durable-is-visible", Rule: "R1", Critical: true, File: "internal/kv/position.go",
		Find:    "OnlyReadGuaranteedDurable: true,",
		Replace: "OnlyReadGuaranteedDurable: false,", Layers: layers(stateTests, crashTests)},
}
