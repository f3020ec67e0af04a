package replicate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/hashicorp/yamux"
)

// Kinds of streams that the system uses; the assembly may add others.
const (
	// KindLog carries frames and snapshots: Receiver on the side that opens it, Sender on the other.
	KindLog = "log"
	// KindAPI carries HTTP between nodes.
	KindAPI = "api"
)

// Stream is one stream of a session. One goroutine at a time may write on it.
//
// A write that fails closes the whole session, because yamux reports failure for bytes that may still arrive; after
// that only what the other side says it has counts (W14). Exempt are writes after our own Close, and after the other
// side has reset the stream.
type Stream struct {
	net.Conn
	session     *session
	kind, group string
	once        sync.Once
	release     func()
}

// Peer says who is at the other end.
func (s *Stream) Peer() PeerInfo { return s.session.peer }

// Kind returns the kind that the stream was opened with.
func (s *Stream) Kind() string { return s.kind }

// Group returns the group that the stream was opened for.
func (s *Stream) Group() string { return s.group }

// Write writes b and closes the session if that fails.
func (s *Stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if err != nil && !errors.Is(err, yamux.ErrStreamClosed) && !errors.Is(err, yamux.ErrConnectionReset) {
		s.session.close(fmt.Errorf("write on %s stream: %w", s.kind, err))
	}
	return n, err
}

// CloseSession ends the session that the stream belongs to: what arrives on it cannot be trusted.
func (s *Stream) CloseSession(why error) { s.session.close(why) }

// Close ends this stream only.
func (s *Stream) Close() error {
	err := s.Conn.Close()
	s.once.Do(func() {
		if s.release != nil {
			s.release()
		}
	})
	return err
}

// Each stream begins with: 'S' | kind length u8 | kind | group length u8 | group. Group may be empty.
const streamMagic = 'S'

func writeStreamPreface(w io.Writer, kind, group string) error {
	if err := checkNames(kind); err != nil {
		return fmt.Errorf("stream kind: %w", err)
	}
	if len(group) > maxName {
		return fmt.Errorf("group name of %d bytes is above the limit of %d", len(group), maxName)
	}
	b := append([]byte{streamMagic, byte(len(kind))}, kind...)
	b = append(append(b, byte(len(group))), group...)
	_, err := w.Write(b)
	return err
}

func readStreamPreface(r io.Reader) (kind, group string, err error) {
	var one [1]byte
	if _, err := io.ReadFull(r, one[:]); err != nil {
		return "", "", err
	}
	if one[0] != streamMagic {
		return "", "", fmt.Errorf("%w: stream begins with %#x", ErrProtocol, one[0])
	}
	if kind, err = readName(r); err != nil {
		return "", "", err
	}
	if err := checkNames(kind); err != nil {
		return "", "", fmt.Errorf("%w: stream kind: %w", ErrProtocol, err)
	}
	group, err = readName(r)
	return kind, group, err
}

func readName(r io.Reader) (string, error) {
	var b [1 + maxName]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return "", err
	}
	n := int(b[0])
	_, err := io.ReadFull(r, b[1:1+n])
	return string(b[1 : 1+n]), err
}

// PeerNode is the name of the node at the other end.
func (s *Stream) PeerNode() string { return s.Peer().Node }
