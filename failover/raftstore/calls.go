package raftstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"repld/failover"
)

// Operations of a call.
const (
	opHello = "hello" // who are you, and what do you know of the cluster
	opJoin  = "join"  // leader: make me a voter in place of the one that had my name
	opElect = "elect" // stand for leader: the present one, named by id, is gone
	opLoad  = "load"  // leader: the record
	opSet   = "set"   // leader: CompareAndSet
)

// maxCall bounds question and answer, bytes.
const maxCall = 1 << 20

// question is one line of JSON, and so is the answer.
type question struct {
	Op      string   `json:"op"`
	ID      string   `json:"id,omitempty"` // of the voter that asks; elect: name of the leader that is gone
	Proof   bool     `json:"proof,omitempty"`
	Command *command `json:"command,omitempty"`
}

// Codes of an answer that is no success.
const (
	codeRetry    = "retry" // not the leader, or not any more: ask again, the leader if it is known
	codeConflict = "conflict"
	codeInvalid  = "invalid"
	codeFailed   = "failed"
)

type answer struct {
	ID      string          `json:"id"`               // of the voter that answers
	Started bool            `json:"started"`          // it takes part in a cluster's token log
	Voters  []string        `json:"voters,omitempty"` // addresses in that log
	Leader  string          `json:"leader,omitempty"` // name, as far as it knows
	Record  failover.Record `json:"record,omitzero"`
	Code    string          `json:"code,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// call asks another voter.
func (s *Store) call(ctx context.Context, voter string, q question) (answer, error) {
	c, err := s.o.Dial(ctx, voter, KindCall)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	var a answer
	if err := writeDoc(c, q); err != nil {
		return answer{}, fmt.Errorf("ask %s: %w", voter, errors.Join(err, ctx.Err()))
	}
	if err := readDoc(c, &a); err != nil {
		return answer{}, fmt.Errorf("answer of %s: %w", voter, errors.Join(err, ctx.Err()))
	}
	return a, nil
}

// answerCall serves one inbound call.
func (s *Store) answerCall(from string, c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(s.o.Timeout))
	var q question
	if err := readDoc(c, &q); err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(s.ctx, s.o.Timeout)
	defer cancel()
	gone := make(chan struct{})
	go func() { // the caller that leaves needs no answer
		defer close(gone)
		_, _ = io.Copy(io.Discard, c)
		cancel()
	}()
	a := s.answer(ctx, from, q)
	_ = writeDoc(c, a)
	_ = c.Close()
	<-gone
}

// answer does what a question asks for.
func (s *Store) answer(ctx context.Context, from string, q question) answer {
	a := s.hello()
	var err error
	switch q.Op {
	case opHello:
	case opJoin:
		err = s.admit(ctx, from, q.ID)
	case opElect:
		err = s.elect(Gone{Voter: q.ID, Proof: q.Proof})
	case opLoad:
		a.Record, err = s.loadHere(ctx)
	case opSet:
		if q.Command == nil {
			err = failover.ErrInvalid
			break
		}
		a.Record, err = s.setHere(ctx, *q.Command)
	default:
		err = fmt.Errorf("operation %q: %w", q.Op, failover.ErrInvalid)
	}
	a.Code, a.Error = codeOf(err)
	return a
}

func codeOf(err error) (code, text string) {
	switch {
	case err == nil:
		return "", ""
	case errors.Is(err, failover.ErrConflict):
		code = codeConflict
	case errors.Is(err, failover.ErrInvalid):
		code = codeInvalid
	case errors.Is(err, errRetry):
		code = codeRetry
	default:
		code = codeFailed
	}
	return code, err.Error()
}

// err is the answer as an error.
func (a answer) err(voter string) error {
	kind := map[string]error{codeConflict: failover.ErrConflict, codeInvalid: failover.ErrInvalid, codeRetry: errRetry}[a.Code]
	switch {
	case a.Code == "":
		return nil
	case kind != nil:
		return &remoteError{text: a.Error, kind: kind}
	}
	return fmt.Errorf("voter %s: %s", voter, a.Error)
}

// remoteError is an error of the leader, in its words.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.kind }

func writeDoc(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func readDoc(r io.Reader, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxCall)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(line)).Decode(v)
}
