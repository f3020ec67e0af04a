package raftstore

import (
	"errors"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's, with more patience than raft has of its own:
//
//   - A connection that raft kept may lead to a process that has been restarted since. Raft asks for a vote once, and one that is lost to such a connection costs a
//     whole election timeout.
//   - Raft rests after each entry that it could not deliver, twice as long each time, up to 10 s, and nothing wakes it. A voter that was away for some seconds
//     would be deaf to the leader for as long again, and with the third one gone nothing could be decided meanwhile.
type transport struct {
	*raft.NetworkTransport
	leads func(term uint64) bool // whether this voter is the leader of the term, and not closing
}

var (
	_ raft.Transport   = transport{}
	_ raft.WithPreVote = transport{}
	_ raft.WithClose   = transport{}
)

// maxPool is how many connections raft keeps to each voter.
const maxPool = 2

// again makes a request until one connection carries it. A failed one is not kept, so after maxPool failures the next one is new.
func again(request func() error) (err error) {
	for range maxPool + 1 {
		var late net.Error
		if err = request(); err == nil || errors.As(err, &late) && late.Timeout() {
			return err
		}
	}
	return err
}

// RequestVote implements raft.Transport.
func (t transport) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return again(func() error { return t.NetworkTransport.RequestVote(id, to, args, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return again(func() error { return t.NetworkTransport.RequestPreVote(id, to, args, resp) })
}

// TimeoutNow implements raft.Transport.
func (t transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return again(func() error { return t.NetworkTransport.TimeoutNow(id, to, args, resp) })
}

// deliverAgain is how soon entries are sent again.
const deliverAgain = 25 * time.Millisecond

// AppendEntries implements raft.Transport. It goes on until it has an answer, or this voter leads no more.
func (t transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for {
		err := t.NetworkTransport.AppendEntries(id, to, args, resp)
		if err == nil || !t.leads(args.Term) {
			return err
		}
		time.Sleep(deliverAgain)
	}
}

// AppendEntriesPipeline implements raft.Transport: there is no pipeline. Raft (v1.8.0) never ends one whose requests are more than it holds when the follower answers
// with a higher term: the sender waits for room, and who would make it has gone; then Shutdown waits for the sender. A token changes far too seldom to need it.
func (t transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}
