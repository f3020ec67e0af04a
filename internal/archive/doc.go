// Package archive keeps copies of a group outside its nodes: backups of the state, and the log without a gap, in a folder or an S3-compatible store.
//
//	PREFIX/CLUSTER/GROUP/
//	  about.json                       format; whether objects are encrypted
//	  objects/ab/abcdef…               files of states, named by their content: what is there already is not sent again
//	  backups/LSN-ID.json              a backup: position, digest, files; written last, so that it is whole or not there
//	  log/FIRST-LAST-EPOCH-PREV-END    frames, byte for byte as on disk and on the wire; PREV and END are chain hashes
//
// # Guarantees
//
//   - Nothing in the store is ever changed: an object is written once under a name that says what it holds. Whatever is killed at whatever moment leaves objects that nobody
//     names (expire removes them) and nothing else; doing it again finds them and sends the rest.
//   - Everything is checked on the way back: objects by their SHA-256 (keyed, if encrypted), frames by their own hashes and by the chain, which also
//     shows that no piece is missing, twice there, or of another history.
//   - Only committed frames are archived. After a promotion that gave records up, two histories lie side by side; a Path follows one of them, the newest epoch's unless told otherwise.
//   - Memory does not depend on sizes: everything is streamed, a chunk of log has a limit.
//
// With a key file, a file of age identities, every object but about.json is encrypted on this side; names of content are then keyed too, so that they tell nothing.
package archive
