package server

// forwards reports whether the session's commands go to the active while this node is a standby, so that the connection may stay.
func (s *Session) forwards() bool { return false }
