package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// readEvents reads one JSON object a line until one has Done set. A line above maxEventBytes and an end without Done are errors; a Done event with
// a code becomes an *Error next to the event.
func readEvents(r io.Reader, on func(Event)) (Event, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEventBytes)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return Event{}, &Error{Code: CodeFailed, Message: fmt.Sprintf("the node sent a line that is no event: %v", err)}
		}
		if e.Done {
			return e, eventError(e)
		}
		if on != nil {
			on(e)
		}
	}
	cause := lines.Err()
	if cause == nil {
		cause = io.ErrUnexpectedEOF
	}
	return Event{}, &Error{Code: CodeFailed,
		Message: fmt.Sprintf("the connection ended before the node said how it came out (see replctl status): %v", cause)}
}

func eventError(e Event) error {
	if e.Code == "" && e.Error == "" {
		return nil
	}
	code := e.Code
	if code == "" {
		code = CodeFailed
	}
	return &Error{Code: code, Message: e.Error}
}

// eventWriter sends events as they come. After the first failed write (the client left) it stays silent: the work goes on, because half a
// promotion is worse than one that nobody watches.
type eventWriter struct {
	w      http.ResponseWriter
	flush  *http.ResponseController
	failed bool
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	e := &eventWriter{w: w, flush: http.NewResponseController(w)}
	e.sent(e.flush.Flush()) // the client's bound on the answer's head ends here
	return e
}

func (e *eventWriter) emit(ev Event) {
	if e.failed {
		return
	}
	text, err := json.Marshal(ev)
	if err == nil {
		_, err = e.w.Write(append(text, '\n'))
	}
	if err == nil {
		err = e.flush.Flush()
	}
	e.sent(err)
}

func (e *eventWriter) sent(err error) {
	e.failed = err != nil && !errors.Is(err, http.ErrNotSupported)
}

// finish sends the last event, with err as its failure.
func (e *eventWriter) finish(ev Event, err error) {
	ev.Done = true
	if err != nil {
		fault := asError(err)
		ev.Code, ev.Error = fault.Code, fault.Message
	}
	e.emit(ev)
}
