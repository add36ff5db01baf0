"""Layer jobs, each in a throw-away process: fetch, verify, inflate, unpack; fit a layer onto those below."""
