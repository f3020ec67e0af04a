package history

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Outcome is what a client knows about its command.
type Outcome uint8

// Outcomes.
const (
	OK Outcome = iota
	Refused
	Unknown
)

// String names it.
func (o Outcome) String() string { return [...]string{"ok", "refused", "unknown"}[o] }

// refusals are the error codes that promise that nothing was written. Any other error, and none from the server at all, is Unknown.
var refusals = []string{"READONLY", "LOADING", "TRYAGAIN", "NOREPLICAS", "MASTERDOWN", "OOM", "MISCONF", "EXECABORT"}

// OutcomeOf classifies the error of a command. A nil reply is an answer.
func OutcomeOf(err error) Outcome {
	if err == nil || errors.Is(err, redis.Nil) {
		return OK
	}
	var answered redis.Error
	if errors.As(err, &answered) {
		for _, code := range refusals {
			if strings.HasPrefix(answered.Error(), code) {
				return Refused
			}
		}
	}
	return Unknown
}
