package sentinel

import (
	"net"
	"strconv"
	"time"
)

// View is what a node knows of the group. internal/node implements it from what the nodes tell each other; a lease may make it stricter.
type View interface {
	// Picture is the group as this node sees it now.
	Picture() Picture
	// Changed is closed when Picture may have changed after the call. Silence changes a picture without it.
	Changed() <-chan struct{}
}

// Picture is the group as one node sees it.
type Picture struct {
	Live   bool   // a majority of the voters, this node included, was heard just now
	Voters int    // nodes of which a majority is needed
	Heard  int    // of them, this node included
	Epoch  uint64 // the highest that was heard of
	Active Instance
	Open   bool       // Active was heard just now and accepts writes in Epoch
	Reads  []Instance // standbys that clients may read from
	Peers  []Instance // Sentinel endpoints of the other nodes
	Self   Instance   // this node's own endpoint
}

// Instance is a node as clients reach it.
type Instance struct {
	Node   string
	Addr   string // host:port, "" if clients cannot reach it
	RunID  string // another one after its data directory was emptied
	Down   bool   // not heard just now
	Silent time.Duration
	LSN    uint64 // durable
}

// known reports whether clients can be sent to i.
func (i Instance) known() bool { return i.Addr != "" }

// split is host and port, as the protocol wants them apart.
func (i Instance) split() (host, port string) {
	host, port, err := net.SplitHostPort(i.Addr)
	if err != nil {
		return "", "0"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 {
		return host, "0"
	}
	return host, port
}

// master is whom clients may be told to write to, ok only under a live view.
func (p *Picture) master() (Instance, bool) {
	return p.Active, p.Live && p.Open && p.Active.known()
}
