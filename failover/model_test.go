package failover

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"repld/wal"
)

// model is a cluster of up to four data nodes reduced to what the promotion rule and the commit rule depend on. Promotions stop at any
// step, messages reach any subset, k changes from epoch to epoch, several nodes believe to be active.
type model struct {
	rule      rule
	shared    bool
	rng       *rand.Rand
	nodes     []*modelNode
	token     Record
	committed []entry // the one history: every commit must extend it
	trace     []string
}

// entry is one record: the epoch that wrote it, and a number that no other record has.
type entry struct {
	epoch wal.Epoch
	id    int
}

type modelNode struct {
	name   string
	state  State
	log    []entry
	active Tenure // what it believes to hold; zero if it is no active
}

func newModel(r rule, shared bool, seed uint64) *model {
	m := &model{rule: r, shared: shared, rng: rand.New(rand.NewPCG(seed, 1))}
	n := 2 + m.rng.IntN(3)
	for i := range n {
		m.nodes = append(m.nodes, &modelNode{name: names[i], state: State{Voter: true}})
	}
	first := m.nodes[0]
	t := Tenure{Epoch: 1, Holder: first.name, Sync: setOf(1, m.rng.IntN(n), others(n, first.name)...)}
	m.token = Record{Epoch: 1, Holder: t.Holder, Sync: t.Sync, Rev: 1}
	first.state, first.active = first.state.with(t), t
	for _, p := range m.nodes {
		p.log = []entry{{epoch: 1}}
		p.state = p.state.with(t)
	}
	m.committed = []entry{{epoch: 1}}
	return m
}

func (m *model) reach() []*modelNode {
	var out []*modelNode
	for _, n := range m.nodes {
		if m.rng.IntN(3) > 0 {
			out = append(out, n)
		}
	}
	return out
}

func (m *model) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (n *modelNode) answer() Answer {
	a := n.state.Answer(n.name)
	h := fnv.New64()
	for _, e := range n.log {
		_, _ = fmt.Fprint(h, e)
	}
	a.Position = wal.Position{Epoch: n.log[len(n.log)-1].epoch, LSN: wal.LSN(len(n.log)), Hash: wal.Hash(h.Sum64())}
	return a
}

func (m *model) situation(c *modelNode, reach []*modelNode, next wal.SyncSet, fenced wal.Epoch, token Record) Situation {
	s := Situation{Candidate: c.name, Shared: m.shared, Next: next, Fenced: fenced}
	if m.shared {
		s.Token = token
	}
	for _, n := range m.nodes {
		s.Nodes = append(s.Nodes, n.name)
		if n == c || slices.Contains(reach, n) {
			s.Answers = append(s.Answers, n.answer())
		} else {
			s.Answers = append(s.Answers, Answer{Node: n.name})
		}
	}
	return s
}

// observe is Fence.Observe and Fence.Grant.
func (n *modelNode) observe(t Tenure) bool {
	last := n.state.Last()
	if t.Epoch < last.Epoch || (t.Epoch == last.Epoch && t.Holder != last.Holder) {
		return false
	}
	if t.Epoch > last.Epoch {
		n.state = n.state.with(t)
	}
	return true
}

// promote goes as far as the dice let it.
func (m *model) promote(c *modelNode) error {
	next := wal.SyncSet{Members: others(len(m.nodes), c.name), K: m.rng.IntN(len(m.nodes))}
	token := m.token // as read before the survey; taking it on is a compare-and-set
	plan := m.rule.decide(m.situation(c, m.reach(), next, 0, token))
	if !plan.Allowed {
		return nil
	}
	t := Tenure{Epoch: plan.Epoch, Holder: c.name, Sync: plan.Next}
	if m.shared {
		m.token = Record{Epoch: t.Epoch, Holder: t.Holder, Sync: t.Sync, Rev: m.token.Rev + 1, History: plan.History}
	}
	if !c.observe(t) {
		return nil
	}
	c.active = Tenure{}
	reach := m.reach()
	for _, n := range reach {
		n.observe(t)
	}
	m.say("%s granted by %v", t, nodeNames(reach))
	plan = m.rule.decide(m.situation(c, reach, plan.Next, t.Epoch, token))
	if !plan.Allowed || m.rng.IntN(5) == 0 {
		return nil
	}
	for _, n := range m.nodes {
		if n.name == plan.Source {
			c.log = slices.Clone(n.log)
		}
	}
	m.say("%s continues the log of %s, %v", c.name, plan.Source, c.log)
	if m.rng.IntN(5) == 0 {
		return nil
	}
	c.active = t
	return m.write(c)
}

// write appends one record (the first of an epoch is its epoch start), and commits if enough standbys acked it.
func (m *model) write(h *modelNode) error {
	t := h.active
	if t.Epoch == 0 || h.state.Epoch() != t.Epoch {
		return nil
	}
	h.log = append(h.log, entry{epoch: t.Epoch, id: len(m.trace) + 1})
	acks := 0
	reach := m.reach()
	for _, n := range reach {
		if n == h || !n.observe(t) {
			continue
		}
		n.log = slices.Clone(h.log)
		if t.Sync.Has(n.name) {
			acks++
		}
	}
	m.say("%s wrote in epoch %d to %v: %v", h.name, t.Epoch, nodeNames(reach), h.log)
	if acks < t.Sync.K {
		return nil
	}
	m.say("committed")
	return m.commit(h.log)
}

// commit holds R1, R2 and R5 at once: history only ever grows, whoever commits.
func (m *model) commit(log []entry) error {
	if len(log) < len(m.committed) || !slices.Equal(log[:len(m.committed)], m.committed) {
		return fmt.Errorf("committed %v does not extend %v", log, m.committed)
	}
	m.committed = slices.Clone(log)
	return nil
}

func (m *model) run() error {
	for range 14 {
		n := m.nodes[m.rng.IntN(len(m.nodes))]
		step := m.write
		if m.rng.IntN(2) == 0 {
			step = m.promote
		}
		if err := step(n); err != nil {
			return err
		}
	}
	return nil
}

func nodeNames(ns []*modelNode) []string {
	var out []string
	for _, n := range ns {
		out = append(out, n.name)
	}
	return out
}

// R1, R2, R5, R6: random lives of a cluster over many epochs, with promotions cut off anywhere and changes of k.
func TestDecideManyEpochs(t *testing.T) {
	for _, shared := range []bool{true, false} {
		for seed := range uint64(8000) {
			m := newModel(rule{}, shared, seed)
			if err := m.run(); err != nil {
				t.Fatalf("shared %v, seed %d: %v\n%v", shared, seed, err, join(m.trace))
			}
		}
	}
}

// Each clause about unfinished epochs and about who grants is needed: without it some life loses a write.
func TestDecideManyEpochsClausesAreNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		rule   rule
		shared bool
	}{
		"only the newest set, shared":    {rule{newestTenureOnly: true}, true},
		"only the newest set":            {rule{newestTenureOnly: true}, false},
		"the holder alone":               {rule{holderAlone: true}, false},
		"a minority grants":              {rule{minorityGrants: true}, false},
		"one member fewer":               {rule{fewerMembers: true}, true},
		"continue the candidate's log":   {rule{candidateSource: true}, true},
		"continue the candidate's log 2": {rule{candidateSource: true}, false},
	} {
		found := false
		for seed := uint64(0); seed < 60000 && !found; seed++ {
			found = newModel(c.rule, c.shared, seed).run() != nil
		}
		if !found {
			t.Errorf("%s: nothing was lost in 60000 lives, so either the clause or the test is idle", name)
		}
	}
}

func join(lines []string) string {
	out := ""
	for _, l := range lines {
		out += l + "\n"
	}
	return out
}
