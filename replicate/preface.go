package replicate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// The preface is exchanged on a fresh connection, before yamux:
//
//	"RPL" format u8 | length u16 LE | JSON
//
// dialer → acceptor: who I am and whom I want; acceptor → dialer: who I am, or why not; dialer → acceptor: agreed, or why not.
const (
	prefaceMagic = "RPL\x01"
	prefaceLimit = 4 << 10
)

// preface is one of the three messages.
type preface struct {
	Version     int    `json:"version"`
	MinVersion  int    `json:"min_version"`
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	To          string `json:"to"` // the node that the sender of this message believes to talk to
	Incarnation string `json:"incarnation"`
	Link        string `json:"link,omitempty"` // this connection is a link of a kind, not a session
	Code        string `json:"code,omitempty"` // refused, and why; the session ends
	Refuse      string `json:"refuse,omitempty"`
}

// Codes of a refused session.
const (
	RefuseVersion     = "version"
	RefuseCluster     = "cluster"
	RefuseNode        = "node"
	RefuseIncarnation = "incarnation"
	RefuseMalformed   = "malformed"
	RefuseCertificate = "certificate"
)

// HandshakeError says why a session was refused, by us or by the peer. Both sides get the same words.
type HandshakeError struct {
	Code    string // one of the Refuse constants
	Message string
	Remote  bool // the other side refused
}

// Error says who refused and why.
func (e *HandshakeError) Error() string {
	if e.Remote {
		return "peer refused the session: " + e.Message
	}
	return "session refused: " + e.Message
}

// Is matches ErrRefused.
func (e *HandshakeError) Is(target error) bool { return target == ErrRefused }

func refusal(code, format string, args ...any) *HandshakeError {
	return &HandshakeError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func writePreface(w io.Writer, p preface) error {
	body, err := encodeJSON(p)
	if err != nil {
		return err
	}
	if len(body) > prefaceLimit {
		return fmt.Errorf("preface of %d bytes is above the limit of %d", len(body), prefaceLimit)
	}
	b := binary.LittleEndian.AppendUint16([]byte(prefaceMagic), uint16(len(body)))
	_, err = w.Write(append(b, body...))
	return err
}

// readPreface reads one preface. Errors that the other side's bytes cause are *HandshakeError.
func readPreface(r io.Reader) (preface, error) {
	var h [len(prefaceMagic) + 2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return preface{}, err
	}
	if string(h[:len(prefaceMagic)]) != prefaceMagic {
		return preface{}, refusal(RefuseMalformed, "not a repld peer: first bytes are %x", h[:len(prefaceMagic)])
	}
	n := binary.LittleEndian.Uint16(h[len(prefaceMagic):])
	if n > prefaceLimit {
		return preface{}, refusal(RefuseMalformed, "preface of %d bytes is above the limit of %d", n, prefaceLimit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return preface{}, err
	}
	p, err := decodeJSON[preface](b)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return preface{}, refusal(RefuseMalformed, "%v", err)
	}
	return p, nil
}

func (p preface) check() error {
	if p.Code != "" {
		if len(p.Refuse) > 1024 || checkNames(p.Code) != nil {
			return errors.New("malformed refusal")
		}
		return nil
	}
	if err := checkNames(p.Cluster, p.Node, p.To); err != nil {
		return err
	}
	if b, err := hex.DecodeString(p.Incarnation); err != nil || len(b) != 16 {
		return fmt.Errorf("incarnation %q is not 32 hex digits", p.Incarnation)
	}
	if p.Link != "" {
		if err := checkNames(p.Link); err != nil {
			return err
		}
	}
	if p.Version < 1 || p.MinVersion < 1 || p.MinVersion > p.Version {
		return fmt.Errorf("versions %d to %d make no range", p.MinVersion, p.Version)
	}
	return nil
}
