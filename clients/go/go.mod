module herocoordinator

go 1.22
