"""From looks at the machine to rows that the service has."""
