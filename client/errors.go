package client

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrUnknown says that a write may or may not have been executed. Repeat it with its id (Do), or read before writing again.
	ErrUnknown = errors.New("the outcome is unknown")
	// ErrNoActive says that no node that could be reached is the active. Nothing was executed.
	ErrNoActive = errors.New("no active found")
	// ErrNil is the answer of a command that found nothing.
	ErrNil = redis.Nil
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("client is closed")
)

// ServerError is an error that the active answered. The command was not executed, or is at fault.
type ServerError struct {
	Code    string // such as WRONGTYPE, ERR
	Message string // the whole answer
}

func (e *ServerError) Error() string { return e.Message }

// outcome is what is known of a command after a try.
type outcome uint8

const (
	answered outcome = iota // executed, or at fault for good
	refused                 // surely not executed: try again
	unknown                 // perhaps executed
)

// judge says what is known after err. sent is false if the connection was not even made.
func judge(err error) outcome {
	var reply redis.Error
	var op *net.OpError
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return answered
	case errors.As(err, &reply):
		code, _, _ := strings.Cut(reply.Error(), " ")
		switch code {
		case "READONLY", "LOADING", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "STALE":
			return refused
		case "UNKNOWN":
			return unknown
		}
		if strings.HasPrefix(reply.Error(), "ERR max number of clients reached") {
			return refused
		}
		return answered
	case errors.Is(err, errNotSent), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, ErrClosed), errors.As(err, &op) && op.Op == "dial":
		return refused
	}
	return unknown
}

// errNotSent marks errors before a command was sent.
var errNotSent = errors.New("not sent")

// final turns the last error into what the caller gets.
func final(err error, o outcome, why error) error {
	var reply redis.Error
	switch {
	case o == unknown:
		return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(err, why))
	case o == refused:
		return fmt.Errorf("%w: %w", ErrNoActive, errors.Join(err, why))
	case err == nil || errors.Is(err, redis.Nil):
		return err
	case errors.As(err, &reply):
		code, _, _ := strings.Cut(reply.Error(), " ")
		return &ServerError{Code: code, Message: reply.Error()}
	}
	return err
}
