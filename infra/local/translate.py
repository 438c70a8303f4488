"""Translates a SAM template into CloudFormation as AWS does, without AWS: standard input to standard output."""

import json
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(sys.stdin)
for resource in template["Resources"].values():
    for name in ("CodeUri", "DefinitionUri"):
        # What `sam package` uploads.
        if isinstance(resource.get("Properties", {}).get(name), str):
            resource["Properties"][name] = "s3://packages/package"
session = boto3.session.Session(region_name="eu-west-1")
translated = Translator({}, Parser(), boto_session=session).translate(template, {})
# The other transformation of the template is CloudFormation's own business.
translated["Transform"] = "AWS::LanguageExtensions"
json.dump(translated, sys.stdout, indent=2)
