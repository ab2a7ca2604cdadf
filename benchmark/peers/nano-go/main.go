// The servers of the benchmark on Go nano: the same services as ours, with the options its users run with.
package main

import (
	"errors"
	"flag"
	"io"
	stdlog "log"
	"strconv"
	"sync"
	"time"

	"github.com/lonng/nano"
	"github.com/lonng/nano/component"
	"github.com/lonng/nano/scheduler"
	"github.com/lonng/nano/serialize/json"
	"github.com/lonng/nano/session"
)

func main() {
	role := flag.String("role", "standalone", "standalone, gate, backend or master")
	listen := flag.String("listen", "127.0.0.1:3250", "where clients connect")
	ws := flag.String("ws", "", "clients speak WebSocket, at this path")
	certificate := flag.String("cert", "", "a certificate, for TLS")
	key := flag.String("key", "", "its key")
	serve := flag.String("serve", "127.0.0.1:34567", "where other nodes connect")
	master := flag.String("master", "", "where the master is")
	flag.Parse()

	components := &component.Components{}
	if *role == "standalone" || *role == "backend" {
		components.Register(&Echo{})
		components.Register(&PB{})
		components.Register(NewGrp())
		components.Register(&Lobby{rooms: map[uint64]*room{}})
		components.Register(&Room{}, component.WithSchedulerName(schedulerName))
	}
	options := []nano.Option{
		nano.WithComponents(components),
		nano.WithSerializer(json.NewSerializer()),
		nano.WithHeartbeatInterval(30 * time.Second),
		nano.WithLogger(stdlog.New(io.Discard, "", 0)),
	}
	if *ws != "" {
		options = append(options, nano.WithIsWebsocket(true), nano.WithWSPath(*ws))
	}
	if *certificate != "" {
		options = append(options, nano.WithTSLConfig(*certificate, *key))
	}
	address := *serve
	switch *role {
	case "standalone":
		address = *listen
	case "master":
		options = append(options, nano.WithMaster())
	case "gate":
		options = append(options, nano.WithAdvertiseAddr(*master), nano.WithClientAddr(*listen))
	case "backend":
		options = append(options, nano.WithAdvertiseAddr(*master))
	default:
		stdlog.Fatalf("no such role: %s", *role)
	}
	nano.Listen(address, options...)
}

// Echo answers with what it was sent.
type Echo struct{ component.Base }

func (*Echo) Echo(s *session.Session, body []byte) error {
	return s.Response(body)
}

func (*Echo) Push(s *session.Session, body []byte) error {
	return s.Push("onEcho", body)
}

// Ping is JSON, read and written.
type Ping struct {
	Content string `json:"content"`
}

// PB answers in the serializer's format.
type PB struct{ component.Base }

func (*PB) Echo(s *session.Session, ping *Ping) error {
	return s.Response(ping)
}

// Grp is one group of all sessions that join.
type Grp struct {
	component.Base
	group *nano.Group
}

func NewGrp() *Grp {
	return &Grp{group: nano.NewGroup("all")}
}

// AfterInit lets sessions that have closed leave.
func (g *Grp) AfterInit() {
	session.Lifetime.OnClosed(func(s *session.Session) { _ = g.group.Leave(s) })
}

func (g *Grp) Join(s *session.Session, body []byte) error {
	if err := g.group.Add(s); err != nil {
		return err
	}
	return s.Response(body)
}

func (g *Grp) Send(_ *session.Session, body []byte) error {
	return g.group.Broadcast("onBroadcast", body)
}

const (
	schedulerName = "room"
	roomKey       = "room.group"
)

// room has a goroutine of its own, on which its handlers run.
type room struct {
	group *nano.Group
	tasks chan scheduler.Task
}

// Schedule makes it a scheduler.
func (r *room) Schedule(task scheduler.Task) {
	r.tasks <- task
}

func newRoom(name string) *room {
	r := &room{group: nano.NewGroup(name), tasks: make(chan scheduler.Task, 1024)}
	go func() {
		for task := range r.tasks {
			task()
		}
	}()
	return r
}

// Lobby brings players to their rooms.
type Lobby struct {
	component.Base
	sync.Mutex
	rooms map[uint64]*room
}

// AfterInit lets sessions that have closed leave.
func (*Lobby) AfterInit() {
	session.Lifetime.OnClosed(func(s *session.Session) {
		if r, ok := s.Value(roomKey).(*room); ok {
			_ = r.group.Leave(s)
		}
	})
}

// Enter gets the number of the room in the first eight hexadecimal digits of the body.
func (l *Lobby) Enter(s *session.Session, body []byte) error {
	if len(body) < 8 {
		return errors.New("no room")
	}
	number, err := strconv.ParseUint(string(body[:8]), 16, 32)
	if err != nil {
		return err
	}
	l.Lock()
	r, found := l.rooms[number]
	if !found {
		r = newRoom(strconv.FormatUint(number, 10))
		l.rooms[number] = r
	}
	l.Unlock()
	if err := r.group.Add(s); err != nil {
		return err
	}
	s.Set(schedulerName, r)
	s.Set(roomKey, r)
	return s.Response(body)
}

// Room broadcasts to its sessions.
type Room struct{ component.Base }

func (*Room) Move(s *session.Session, body []byte) error {
	r, ok := s.Value(roomKey).(*room)
	if !ok {
		return errors.New("in no room")
	}
	return r.group.Broadcast("onMove", body)
}
