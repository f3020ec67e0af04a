package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/wal"
)

// repairer opens a log that may be damaged. What recovery refuses is mended with the help of peers before the node is open: until then it is connected to them, but
// does not vote, ack or serve (R8, R11); to all calls it answers that it is being repaired.
//
//  1. A hole whose both ends this node's own records know is filled with a peer's frames (wal.Fill): nothing is lost, nobody's word is needed, and the node is what it was.
//  2. What cannot be filled is given up only when another node is active: history was decided without this one. The log is cut at the damage (wal.Salvage), or, if the state is further, begins
//     anew at the state's position (wal.Discard); all its files are kept, and the node does not count before it has caught up.
//  3. Otherwise the node refuses to start, and says what is damaged and what each peer said.
type repairer struct {
	g       *group
	options wal.Options

	peers *peers // once a repair began
	stop  func()
	now   atomic.Pointer[string] // what is being done, for the peers
}

const (
	repairPoll   = 50 * time.Millisecond
	repairRounds = 1000 // holes of one log
	alarmLog     = "log-repaired"
)

func newRepairer(g *group, options wal.Options) *repairer {
	return &repairer{g: g, options: options, stop: func() {}}
}

// openLog opens the group's log, which has to reach known.
func (r *repairer) openLog(known wal.Position) (err error) {
	r.options.KnownDurable = known.LSN
	for range repairRounds {
		r.g.log, r.g.recovery, err = wal.Open(r.options)
		if err == nil {
			return nil
		}
		r.g.log = nil
		err = fmt.Errorf("open log: %w", err)
		var damage *wal.CorruptError
		if !errors.As(err, &damage) || !errors.Is(err, wal.ErrCorrupt) {
			return err
		}
		if repairErr := r.mend(damage, known); repairErr != nil {
			return fmt.Errorf("%w; not repaired: %w", err, repairErr)
		}
	}
	return err
}

// openLogFor opens the log that a snapshot at a position is to replace. If it is damaged, it begins anew there: this node has not counted since before the snapshot
// had its name (R11).
func (r *repairer) openLogFor(at wal.Position) (err error) {
	r.options.KnownDurable = 0
	r.g.log, r.g.recovery, err = wal.Open(r.options)
	if !errors.Is(err, wal.ErrCorrupt) {
		return err
	}
	if _, err := wal.Discard(r.options, at, err.Error(), r.g.path("diverged")); err != nil {
		return err
	}
	r.g.log, r.g.recovery, err = wal.Open(r.options)
	return err
}

// mend does something about the damage, after which the log is opened again.
func (r *repairer) mend(damage *wal.CorruptError, known wal.Position) error {
	hole, holeErr := wal.FindHole(r.options, known)
	if holeErr == nil && hole.Empty() {
		err := r.fill(hole, "", func(wal.Hole) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil })
		if !errors.Is(err, wal.ErrRoom) {
			return err
		}
	}
	if len(r.g.nodes()[1:]) == 0 {
		return errors.Join(holeErr, errors.New("this node has no peers"))
	}
	r.g.logger.Error("log is damaged", "error", damage, "hole", fmt.Sprint(hole), "to_be_filled", holeErr == nil)
	if err := r.connect(); err != nil {
		return err
	}
	return r.ask(damage, hole, holeErr, known)
}

// ask tries all peers until one has helped or the time is up.
func (r *repairer) ask(damage *wal.CorruptError, hole wal.Hole, holeErr error, known wal.Position) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.g.o.RepairWait)
	defer cancel()
	half := time.Now().Add(r.g.o.RepairWait / 2)
	said := map[string]error{}
	tick := time.NewTicker(repairPoll)
	defer tick.Stop()
	for {
		r.say("repairs its log: %s", hole)
		if holeErr == nil && r.fillFromPeers(ctx, hole, said) {
			return nil
		}
		// Every peer was asked, or those that cannot be reached had their chance.
		if len(said) == len(r.g.nodes()[1:]) || holeErr != nil || time.Now().After(half) {
			if active := r.activePeer(ctx); active != "" {
				return r.giveUp(damage, known, active, errors.Join(holeErr, whatPeersSaid(said)))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(holeErr, whatPeersSaid(said), fmt.Errorf("no peer could repair it within %s, and none is active", r.g.o.RepairWait))
		}
	}
}

// fillFromPeers asks the connected peers for the frames. said holds each peer's refusal; a peer that may say something else later has none.
func (r *repairer) fillFromPeers(ctx context.Context, hole wal.Hole, said map[string]error) bool {
	for _, p := range r.peers.mesh.Peers() {
		if !p.Connected || !slices.Contains(r.peers.data, p.Name) {
			continue
		}
		err := r.fill(hole, p.Name, func(h wal.Hole) (io.ReadCloser, error) { return r.peers.frames(ctx, p.Name, h.From, h.To.LSN) })
		var refused *peerError
		switch {
		case err == nil:
			return true
		case errors.As(err, &refused) && refused.Status == http.StatusConflict, errors.Is(err, wal.ErrDiverged):
			said[p.Name] = err
		default:
			r.g.logger.Warn("frames not had", "peer", p.Name, "error", err)
		}
	}
	return false
}

// fill fills a hole from a source, and the one beyond it if a frame behind it is not where it belongs.
func (r *repairer) fill(hole wal.Hole, peer string, frames func(wal.Hole) (io.ReadCloser, error)) error {
	for {
		in, err := frames(hole)
		if err != nil {
			return err
		}
		err = errors.Join(wal.Fill(r.options, hole, in, r.g.path("diverged")), in.Close())
		if errors.Is(err, wal.ErrRoom) {
			if hole, err = hole.Beyond(r.options); err == nil {
				continue
			}
		}
		if err == nil {
			r.g.logRepaired(hole, peer)
		}
		return err
	}
}

// logRepaired says what was repaired. The alarm stays until the node is started again: a disk that lost something once will do it again.
func (g *group) logRepaired(hole wal.Hole, peer string) {
	g.repairs.Add(1)
	g.logger.Warn("damaged log repaired", "hole", hole.String(), "found", hole.Found, "peer", peer)
	g.alarms.raise(alarmLog, fmt.Sprintf("the log was damaged and has been repaired (%s): look after the disk", hole))
}

// giveUp lets go what cannot be repaired: another node is active, so its history is the one that counts. Everything is kept aside (R9), and before anything is changed this node
// ceases to be a voter, durably (R11).
func (r *repairer) giveUp(damage *wal.CorruptError, known wal.Position, active string, why error) error {
	g := r.g
	g.logger.Warn("log cannot be repaired in place; this node does not count until it has caught up with the active", "active", active, "reason", why)
	if err := g.fence.SetVoter(false); err != nil {
		return err
	}
	g.alarms.raise(alarmLog, "the log was damaged and could not be repaired in place: this node is filled anew from the active; look after the disk")
	if damage.Good.LSN > 0 && damage.Good.LSN >= known.LSN {
		if _, err := wal.Salvage(r.options, damage, g.path("diverged")); err == nil || !errors.Is(err, wal.ErrCorrupt) {
			return err
		}
	}
	_, err := wal.Discard(r.options, known, damage.Error(), g.path("diverged"))
	return err
}

// activePeer returns a peer that is active in an epoch not below ours, "" if there is none.
func (r *repairer) activePeer(ctx context.Context) string {
	for _, a := range r.peers.survey(ctx, false, surveyTerms{}, func(ctx context.Context, peer string) (a failover.Answer, err error) {
		err = r.peers.call(ctx, peer, peerSurvey, nil, &a)
		return a, err
	}) {
		if a.Reachable && a.Role == failover.RoleActive && a.Epoch >= r.g.fence.Epoch() {
			return a.Node
		}
	}
	return ""
}

func whatPeersSaid(said map[string]error) error {
	var all []string
	for _, err := range said {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

func (r *repairer) say(format string, args ...any) {
	text := fmt.Sprintf("node %s ", r.g.o.Name) + fmt.Sprintf(format, args...)
	r.now.Store(&text)
}

// connect joins the peers with a mesh of its own: the node's is not running yet.
func (r *repairer) connect() error {
	if r.peers != nil {
		return nil
	}
	mesh, err := r.g.o.repairMesh()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	answer := &http.Server{Handler: http.HandlerFunc(r.busy), ReadHeaderTimeout: 10 * time.Second}
	listener := mesh.Listener(streamHTTP)
	running.Go(func() { _ = serveHTTP(ctx, answer, listener) }) // it ends with ctx
	running.Go(func() {
		if err := mesh.Run(ctx); err != nil && ctx.Err() == nil {
			r.g.logger.Warn("peers not reached for a repair", "error", err)
		}
	})
	r.peers = newPeers(mesh, r.g.nodes()[1:])
	r.stop = func() {
		r.peers.close()
		cancel()
		if err := mesh.Close(); err != nil {
			r.g.logger.Warn("sessions not closed", "error", err)
		}
		running.Wait()
		r.peers, r.stop = nil, func() {}
	}
	return nil
}

// busy answers every call of a peer: this node takes part in nothing.
func (r *repairer) busy(w http.ResponseWriter, _ *http.Request) {
	text := "is being repaired"
	if p := r.now.Load(); p != nil {
		text = *p
	}
	fail(w, http.StatusServiceUnavailable, errors.New(text))
}

// end leaves the peers.
func (r *repairer) end() { r.stop() }
