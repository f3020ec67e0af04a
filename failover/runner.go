package failover

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"repld/wal"
)

// RunnerOptions configures a Runner. Node, Nodes, Host, Fence, Store and Next are required.
type RunnerOptions struct {
	Node   string             // this node's name
	Nodes  []string           // all configured data nodes, this one among them
	Host   Host               // the node
	Fence  *Fence             // this node's
	Store  Store              // where the token lives
	Next   func() wal.SyncSet // members and k that an epoch of this node starts with; Version and this node are ignored
	Bounds Bounds             // of each step
	Tick   time.Duration      // resolution of the bounds, default 100 ms
	Now    func() time.Time   // written into the token record, for people; default time.Now
	Logger *slog.Logger       // default discards
}

// EnsureDefaults fills what is unset.
func (o *RunnerOptions) EnsureDefaults() {
	o.Bounds.EnsureDefaults()
	if o.Tick == 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot work.
func (o *RunnerOptions) Validate() error {
	if o.Host == nil || o.Fence == nil || o.Store == nil || o.Next == nil || o.Tick < 0 {
		return fmt.Errorf("runner: %w: host, fence, store and next are required", ErrInvalid)
	}
	if !slices.Contains(o.Nodes, o.Node) {
		return fmt.Errorf("runner: %w: node %q is not one of %s", ErrInvalid, o.Node, list(o.Nodes))
	}
	return nil
}

// PromoteOptions are the words of whoever asks for a promotion.
type PromoteOptions struct {
	Reason        string `json:"reason"`          // kept in the token and in the epoch-start record
	AllowDataLoss bool   `json:"allow_data_loss"` // consent to lose what R5 cannot show to be safe
	Bootstrap     bool   `json:"bootstrap"`       // this is a new cluster
	K             *int   `json:"k,omitempty"`     // start the epoch with this k instead of the configured one
	Cut           *Cut   `json:"cut,omitempty"`   // end the history there: consent to give up what comes after

	// Surveyed is what Prepare saw, so that the promotion begins with the token. The token is taken against the revision seen, and what binds are the answers
	// to the fence, so one that is out of date can only make the promotion fail.
	Surveyed *SurveyDone `json:"-"`
}

// Result of a promotion, or of a switchover (then only Epoch).
type Result struct {
	Epoch   wal.Epoch `json:"epoch"`
	Already bool      `json:"already"` // the node was active before; nothing was done
	Start   wal.LSN   `json:"start"`   // of the epoch-start record
	Plan    Plan      `json:"plan"`
}

// RoleChange is one change of role. Epoch is the one that the node holds or held, 0 for a standby that held none.
type RoleChange struct {
	Old    Role      `json:"old"`
	New    Role      `json:"new"`
	Epoch  wal.Epoch `json:"epoch"`
	Reason string    `json:"reason"`
}

// Runner owns the Machine of one group and carries out its actions on the Host. Its methods are safe for concurrent
// use; those that ask for something need Run to be running.
type Runner struct {
	o      RunnerOptions
	status atomic.Pointer[status]
	lastID atomic.Uint64
	ended  chan struct{} // closed when Run is over

	requests    chan request // to the loop
	completions chan Event   // from the jobs
	urgent      chan struct{}

	inbox struct { // facts that must not wait for the loop
		sync.Mutex
		higher *HigherEpochSeen // the highest
		failed *StoreFailed     // the first
	}
	subs struct {
		sync.Mutex
		next int
		fns  map[int]func(RoleChange)
	}

	// owned by the loop
	machine *Machine
	waiting map[uint64]request
	jobs    jobs
}

// status is what other goroutines see of the machine.
type status struct {
	role  Role
	epoch wal.Epoch
}

// request is one call of Promote, Demote or Switchover. Its channels have room, so the loop never waits for a caller.
type request struct {
	id    uint64
	event Event
	tell  chan string
	reply chan Report
}

// NewRunner returns a runner of a standby and subscribes it to the fence.
func NewRunner(o RunnerOptions) (*Runner, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Runner{o: o, ended: make(chan struct{}), requests: make(chan request), completions: make(chan Event),
		urgent: make(chan struct{}, 1), waiting: make(map[uint64]request)}
	r.subs.fns = make(map[int]func(RoleChange))
	r.machine = NewMachine(MachineOptions{Node: o.Node, Nodes: o.Nodes, Shared: o.Store.Shared(), Bound: r.bound})
	r.status.Store(&status{role: r.machine.Role()})
	r.jobs.init(r)
	o.Fence.OnRise(r.HigherEpoch)
	return r, nil
}

// bound returns a stage's bound in ticks, at least two so that one that begins between two ticks is not cut at once.
func (r *Runner) bound(s string) int {
	b := r.o.Bounds
	d := map[stage]time.Duration{stageSurvey: b.Survey, stageToken: b.Token, stageFence: b.Fence,
		stageFastForward: b.FastForward, stageEpochStart: b.EpochStart, stageReplay: b.Replay, stageDrain: b.Drain,
		stageHandOver: b.HandOver, stageStopWriter: b.StopWriter}[stage(s)]
	return max(2, int(d/r.o.Tick))
}

// Role returns this node's role. A higher epoch that was persisted a moment ago may not show yet: what may be written
// is for the Fence to say.
func (r *Runner) Role() Role { return r.status.Load().role }

// Epoch returns the epoch that this node holds as candidate, active or fenced node, else the one that it obeys.
func (r *Runner) Epoch() wal.Epoch {
	if s := r.status.Load(); s.epoch != 0 {
		return s.epoch
	}
	return r.o.Fence.Epoch()
}

// Subscribe calls fn for each change of role, in order, on the runner's goroutine: fn must not block, nor call a
// method of the runner that waits. cancel ends it.
func (r *Runner) Subscribe(fn func(RoleChange)) (cancel func()) {
	r.subs.Lock()
	defer r.subs.Unlock()
	id := r.subs.next
	r.subs.next++
	r.subs.fns[id] = fn
	return func() {
		r.subs.Lock()
		defer r.subs.Unlock()
		delete(r.subs.fns, id)
	}
}

// Promote makes this node active, or says why not: *RefusedError when R5 is not met, ErrBusy, ErrFenced, ErrTimeout,
// or what a step failed with. On a node that is active already it succeeds and says so. progress may be nil; it is
// called on the caller's goroutine. When ctx ends the caller leaves, but a promotion under way goes on to its end.
func (r *Runner) Promote(ctx context.Context, o PromoteOptions, progress func(string)) (Result, error) {
	id := r.lastID.Add(1)
	rep, err := r.ask(ctx, request{id: id, event: PromoteRequested{ID: id, Options: o, Next: r.next(o)}}, progress)
	if err != nil {
		return Result{}, err
	}
	return rep.Result, rep.Err
}

// Plan tells what Promote would decide now, and changes nothing.
func (r *Runner) Plan(ctx context.Context, o PromoteOptions) (Plan, error) {
	plan, _, err := r.look(ctx, o)
	return plan, err
}

// Prepare makes the first step of a promotion ahead, changing nothing: what it returns is for PromoteOptions.Surveyed, soon. *RefusedError says that Promote would
// be refused now.
func (r *Runner) Prepare(ctx context.Context, o PromoteOptions) (*SurveyDone, error) {
	plan, seen, err := r.look(ctx, o)
	if err == nil && !plan.Allowed {
		err = &RefusedError{Plan: plan, Phase: string(stageSurvey)}
	}
	return &seen, err
}

func (r *Runner) look(ctx context.Context, o PromoteOptions) (Plan, SurveyDone, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Bounds.Survey)
	defer cancel()
	seen := r.jobs.survey(ctx, Survey{})
	if seen.Err != nil {
		return Plan{}, seen, seen.Err
	}
	return Decide(Situation{Candidate: r.o.Node, Nodes: r.o.Nodes, Answers: seen.Answers, Token: seen.Token,
		Shared: r.o.Store.Shared(), Next: r.next(o), AllowDataLoss: o.AllowDataLoss, Bootstrap: o.Bootstrap, Cut: o.Cut}), seen, nil
}

// Demote makes an active node a standby, and ends a promotion under way. Writes in flight are answered as unknown
// unless they commit before the writer stops. On a standby it succeeds at once.
func (r *Runner) Demote(ctx context.Context, reason string) error {
	id := r.lastID.Add(1)
	rep, err := r.ask(ctx, request{id: id, event: DemoteRequested{ID: id, Reason: reason}}, nil)
	if err != nil {
		return err
	}
	return rep.Err
}

// Switchover hands this node's epoch over to another node and returns the epoch in which that one is active. On an
// error other than ErrFenced this node is still active and writes go on.
func (r *Runner) Switchover(ctx context.Context, to string, progress func(string)) (wal.Epoch, error) {
	id := r.lastID.Add(1)
	rep, err := r.ask(ctx, request{id: id, event: SwitchoverRequested{ID: id, To: to}}, progress)
	if err != nil {
		return 0, err
	}
	return rep.Result.Epoch, rep.Err
}

// HigherEpoch tells that holder's epoch is persisted in the fence. It does not block; the fence calls it by itself.
func (r *Runner) HigherEpoch(epoch wal.Epoch, holder string) {
	r.inbox.Lock()
	if h := r.inbox.higher; h == nil || epoch > h.Epoch {
		r.inbox.higher = &HigherEpochSeen{Epoch: epoch, Holder: holder}
	}
	r.inbox.Unlock()
	r.wake()
}

// Failed tells that the log, the state or the epoch file failed (R10): the node steps down and exits. It does not
// block, and only the first error counts.
func (r *Runner) Failed(err error) {
	r.inbox.Lock()
	if r.inbox.failed == nil {
		r.inbox.failed = &StoreFailed{Err: err}
	}
	r.inbox.Unlock()
	r.wake()
}

func (r *Runner) wake() {
	select {
	case r.urgent <- struct{}{}:
	default:
	}
}

// next is the configured set with the k that was asked for.
func (r *Runner) next(o PromoteOptions) wal.SyncSet {
	set := r.o.Next()
	set.Version = 0
	if o.K != nil {
		set.K = *o.K
	}
	return set
}

// ask hands a request to the loop and waits for its report.
func (r *Runner) ask(ctx context.Context, q request, progress func(string)) (Report, error) {
	q.tell, q.reply = make(chan string, 16), make(chan Report, 1)
	select {
	case r.requests <- q:
	case <-r.ended:
		return Report{}, ErrClosed
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	for {
		select {
		case text := <-q.tell:
			if progress != nil {
				progress(text)
			}
		case rep := <-q.reply:
			drainTo(q.tell, progress)
			return rep, nil
		case <-ctx.Done():
			return Report{}, fmt.Errorf("no longer waiting, the request goes on: %w", ctx.Err())
		}
	}
}

// drainTo shows what was said before the report.
func drainTo(tell chan string, progress func(string)) {
	for progress != nil {
		select {
		case text := <-tell:
			progress(text)
		default:
			return
		}
	}
}
