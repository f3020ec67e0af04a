package replicate

import (
	"encoding/hex"
	"errors"
	"net"
	"time"
)

// dialerHandshake runs the dialer's part on c. The caller has set no deadline; it is cleared on return.
// kind is that of a link, "" for a session.
func (m *Mesh) dialerHandshake(c net.Conn, to, kind string) (PeerInfo, error) {
	defer m.deadline(c)()
	first := m.preface(to)
	first.Link = kind
	if err := writePreface(c, first); err != nil {
		return PeerInfo{}, err
	}
	p, err := readPreface(c)
	if err != nil {
		return PeerInfo{}, m.refuse(c, to, err)
	}
	if p.Code != "" {
		return PeerInfo{}, &HandshakeError{Code: p.Code, Message: p.Refuse, Remote: true}
	}
	info, err := m.judge(p, to, c)
	if err != nil {
		return info, m.refuse(c, to, err)
	}
	return info, writePreface(c, m.preface(to))
}

// acceptorHandshake runs the acceptor's part on c.
func (m *Mesh) acceptorHandshake(c net.Conn) (PeerInfo, error) {
	defer m.deadline(c)()
	p, err := readPreface(c)
	if err != nil {
		return PeerInfo{}, m.refuse(c, "?", err)
	}
	if p.Code != "" { // nothing was asked of it yet
		return PeerInfo{}, &HandshakeError{Code: p.Code, Message: p.Refuse, Remote: true}
	}
	info, err := m.judge(p, "", c)
	if err != nil {
		return info, m.refuse(c, p.Node, err)
	}
	if err := writePreface(c, m.preface(p.Node)); err != nil {
		return info, err
	}
	verdict, err := readPreface(c)
	if err != nil {
		return info, err
	}
	if verdict.Code != "" {
		return info, &HandshakeError{Code: verdict.Code, Message: verdict.Refuse, Remote: true}
	}
	return info, nil
}

func (m *Mesh) deadline(c net.Conn) (clear func()) {
	_ = c.SetDeadline(time.Now().Add(m.o.HandshakeTimeout))
	return func() { _ = c.SetDeadline(time.Time{}) }
}

func (m *Mesh) preface(to string) preface {
	return preface{
		Version: m.o.Version, MinVersion: m.o.MinVersion, Cluster: m.o.Cluster, Node: m.o.Node, To: to,
		Incarnation: hex.EncodeToString(m.o.Incarnation[:]),
	}
}

// refuse tells the other side why, so that both sides log the same words, and returns err.
func (m *Mesh) refuse(c net.Conn, to string, err error) error {
	var h *HandshakeError
	if !errors.As(err, &h) {
		return err
	}
	p := m.preface(to)
	p.Code, p.Refuse = h.Code, h.Message
	if len(p.Refuse) > 1000 {
		p.Refuse = p.Refuse[:1000]
	}
	_ = writePreface(c, p) // best effort: the error is returned anyway
	return err
}

// judge checks what the other side says of itself. want is the peer that we dialed, "" when it dialed us.
func (m *Mesh) judge(p preface, want string, c net.Conn) (PeerInfo, error) {
	info := PeerInfo{Node: p.Node, Incarnation: p.Incarnation, Version: min(p.Version, m.o.Version), Remote: remote(c), Link: p.Link}
	own := hex.EncodeToString(m.o.Incarnation[:])
	if m.o.Authenticate != nil {
		if err := m.o.Authenticate(c, p.Node); err != nil {
			return info, refusal(RefuseCertificate, "node %s cannot show that it is node %s: %v", p.Node, p.Node, err)
		}
	}
	switch {
	case info.Version < p.MinVersion || info.Version < m.o.MinVersion:
		return info, refusal(RefuseVersion, "node %s speaks protocol versions %d to %d, node %s %d to %d",
			p.Node, p.MinVersion, p.Version, m.o.Node, m.o.MinVersion, m.o.Version)
	case p.Cluster != m.o.Cluster:
		return info, refusal(RefuseCluster, "node %s is of cluster %q, node %s of cluster %q", p.Node, p.Cluster, m.o.Node, m.o.Cluster)
	case p.Node == m.o.Node:
		return info, refusal(RefuseNode, "both nodes are named %s", p.Node)
	case want != "" && p.Node != want:
		return info, refusal(RefuseNode, "node %s answers where node %s was expected", p.Node, want)
	case p.To != m.o.Node:
		return info, refusal(RefuseNode, "node %s wanted node %s, this is node %s", p.Node, p.To, m.o.Node)
	case m.peers[p.Node] == nil:
		return info, refusal(RefuseNode, "node %s is not in the peer list of node %s", p.Node, m.o.Node)
	case p.Incarnation == own:
		return info, refusal(RefuseIncarnation, "nodes %s and %s have the same incarnation %s: a data directory was copied", p.Node, m.o.Node, own)
	}
	if old := m.peers[p.Node].current(); old != nil && old.peer.Incarnation != p.Incarnation {
		if old.alive(m.o.HandshakeTimeout / 3) {
			return info, refusal(RefuseIncarnation, "node %s is connected with incarnation %s already, this is incarnation %s",
				p.Node, old.peer.Incarnation, p.Incarnation)
		}
		old.close(errors.New("dead, and the node came back with another incarnation"))
	}
	return info, nil
}

func remote(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
