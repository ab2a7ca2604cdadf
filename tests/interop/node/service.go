package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lonng/nano/component"
	"github.com/lonng/nano/session"
)

// Service does what a test asks for. Bodies are bytes.
type Service struct {
	component.Base
	label string
}

// AfterInit runs when the node is a member.
func (*Service) AfterInit() { fmt.Println("joined") }

func (*Service) Echo(s *session.Session, body []byte) error { return s.Response(body) }

func (v *Service) Who(s *session.Session, _ []byte) error { return s.Response([]byte(v.label)) }

// Push pushes twice before it answers.
func (*Service) Push(s *session.Session, body []byte) error {
	if err := s.Push("onA", body); err != nil {
		return err
	}
	if err := s.Push("onB", body); err != nil {
		return err
	}
	return s.Response(body)
}

// Note is for notifies and RPC: the client hears of it by a push.
func (v *Service) Note(s *session.Session, body []byte) error {
	return s.Push("onNote", []byte(v.label+" "+string(body)))
}

// RPC sends on: a route, and a body for it.
func (*Service) Rpc(s *session.Session, body []byte) error {
	route, rest, found := strings.Cut(string(body), " ")
	if !found {
		return errSplit
	}
	if err := s.RPC(route, []byte(rest)); err != nil {
		return err
	}
	return s.Response([]byte("sent"))
}

func (*Service) Bind(s *session.Session, body []byte) error {
	uid, err := strconv.ParseInt(string(body), 10, 64)
	if err != nil {
		return err
	}
	if err := s.Bind(uid); err != nil {
		return err
	}
	return s.Response([]byte("bound"))
}

// Number expects the session's messages to be numbered, and keeps in mind if they were not.
func (*Service) Number(s *session.Session, body []byte) error {
	number, err := strconv.ParseUint(string(body), 10, 64)
	if err != nil {
		return err
	}
	if number != s.Uint64("last")+1 && !s.HasKey("disorder") {
		s.Set("disorder", fmt.Sprintf("%d after %d", number, s.Uint64("last")))
	}
	s.Set("last", number)
	if err := s.Push("onNumber", body); err != nil {
		return err
	}
	return s.Response(body)
}

// Counted answers how many numbers came, or which came out of turn.
func (*Service) Counted(s *session.Session, _ []byte) error {
	if disorder := s.String("disorder"); disorder != "" {
		return s.Response([]byte(disorder))
	}
	return s.Response([]byte(strconv.FormatUint(s.Uint64("last"), 10)))
}

func (*Service) Close(s *session.Session, _ []byte) error {
	s.Close()
	return nil
}

// LastWords answers, and closes the session.
func (*Service) LastWords(s *session.Session, body []byte) error {
	if err := s.Response(body); err != nil {
		return err
	}
	s.Close()
	return nil
}

// Want sets the label of the members that serve this session from now on.
func (*Service) Want(s *session.Session, body []byte) error {
	s.Set("wanted", string(body))
	return s.Response([]byte("noted"))
}

// Offered answers which members the session's last choice was among.
func (*Service) Offered(s *session.Session, _ []byte) error {
	return s.Response([]byte(s.String("offered")))
}

// Chosen answers with the address of the member of the last choice, or nothing if none had the label.
func (*Service) Chosen(s *session.Session, _ []byte) error {
	return s.Response([]byte(s.String("chosen")))
}
