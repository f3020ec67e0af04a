package main

import (
	"errors"
	"fmt"

	"repld/internal/admin"
)

// Exit codes. They are documented in the help and never change their meaning.
const (
	exitOK         = 0
	exitError      = 1 // it was tried and did not work, or the node cannot be reached
	exitUsage      = 2 // the command line or the request is wrong
	exitDegraded   = 3 // there is an active, but fewer copies than promised, an alarm, or a node that does not answer
	exitNoActive   = 4 // nobody may write
	exitRefused    = 5 // a safety check forbids it; nothing was changed
	exitDifference = 6 // verify found a difference or damage
)

const exitHelp = `Exit codes:
  0  done, and all is well
  1  error: it did not work, or the node cannot be reached
  2  usage: the command line is wrong
  3  degraded: fewer copies than promised, an alarm, or a node that does not answer
  4  no active: nobody may write
  5  refused by a safety check; nothing was changed
  6  verify found a difference or damage`

// codeError carries an exit code. Its message may be empty when everything was said already.
type codeError struct {
	code int
	err  error
}

// Error returns the message.
func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codeError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// silent ends with code without another word.
func silent(code int) error {
	if code == exitOK {
		return nil
	}
	return &codeError{code: code}
}

// codeOf returns the exit code for an error of a command.
func codeOf(err error) int {
	var coded *codeError
	var fault *admin.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &fault):
		return codeOfFault(fault.Code)
	}
	return exitError
}

func codeOfFault(code string) int {
	switch code {
	case admin.CodeUsage:
		return exitUsage
	case admin.CodeRefused:
		return exitRefused
	case admin.CodeNoActive:
		return exitNoActive
	case admin.CodeDegraded:
		return exitDegraded
	}
	return exitError
}
